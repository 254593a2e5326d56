"""Clean-up that no single job's end does: expired leases, deadlines, batches left open.

Every worker runs it now and then, and any number of them may at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select, text, update

from db.claims import queued_on
from db.column_types import at_most, now
from db.crash_rule import CAUSE_SENTENCE, CRASH, crash_values, ended_by_crash, is_crash_cause
from db.duplicates import LIVE, OPEN, close_finished, resolve_duplicates
from db.job_events import Change, record
from db.open_submits import close_abandoned
from db.schema import BatchRow, Job, ReviewerRow
from db.session import Database

#: A queue's claimable jobs are counted up to here: more doorbells than that help nobody.
MAX_DUE = 1000


def reconcile(
    database: Database,
    *,
    max_attempts: int,
    grace_seconds: float = 0.0,
    may_take_over: Callable[[], bool] = lambda: True,
) -> dict[str, int]:
    """Put right what workers left behind; return {queue: claimable jobs, at most MAX_DUE}.

    Jobs whose lease ran out are queued again, if `may_take_over` says so once the database
    answers: what the caller knew before it waited may be old. Those that were alone in their worker
    and ended it too often fail with kind "crash". Unfinished jobs past their deadline expire.
    Batches whose jobs have all ended are closed. Jobs that were queued less than
    `grace_seconds` ago are not counted: the message that announced them is likely on its way.
    """
    with database.write() as on:
        touched = _expire_leases(on, max_attempts) if may_take_over() else []
        touched += _expire_deadlines(on)
        resolve_duplicates(on, Job.duplicate_of.in_(touched), follow=("failed", "expired"))
    close_abandoned(database)
    close_finished(database)
    with database.read() as on:
        return _due(on, grace_seconds)


def recover(database: Database, *, worker: str, max_attempts: int) -> int:
    """Queue again what a worker of this name held when it died; return how many jobs.

    For a worker that has just started in its place, and so knows that nobody holds them any more.
    """
    with database.write() as on:
        touched = _requeue_lost(on, "worker_died", Job.worker == worker, max_attempts)
        resolve_duplicates(on, Job.duplicate_of.in_(touched), follow=("failed",))
    close_finished(database)
    return len(touched)


def _expire_leases(on: Connection, max_attempts: int) -> list[int]:
    return _requeue_lost(on, "lease_expired", Job.lease_until < now(), max_attempts)


def _requeue_lost(
    on: Connection, kind: str, which: ColumnElement[bool], max_attempts: int
) -> list[int]:
    """Take jobs from a worker that is gone; fail those that were alone in it once too often."""
    left = select(Job.id).where(text("state = 'running'"), which)
    ended = {"lease_until": None, "finished_at": now()}
    failed = {**ended, "state": "failed"}
    cause = {**failed, "error_kind": CRASH, "error": Job.custom_id + CAUSE_SENTENCE}
    sentence = (
        f"{max_attempts} attempts ended without a result; the last: its worker died or froze."
    )
    used_up = {**failed, "error_kind": "attempts", "error": sentence}
    queued = {"state": "queued", "lease_until": None, "queued_at": now(), **crash_values()}
    # Each says all of its condition: a lease may run out between two of these statements.
    wanted = left.where(~Job.cancel_requested)
    over = ended_by_crash(max_attempts)
    return [
        *_change(
            on, "cancelled", left.where(Job.cancel_requested), {**ended, "state": "cancelled"}
        ),
        *_change(on, "failed", wanted.where(is_crash_cause()), cause),
        *_change(on, "failed", wanted.where(over, ~is_crash_cause()), used_up),
        *_change(on, kind, wanted.where(~over), queued),
    ]


def expire_deadlines(database: Database) -> None:
    """Expire what is past its deadline, as `reconcile` does, for when no worker runs.

    Batches that only dead submits hold open go on.
    """
    close_abandoned(database)
    with database.read() as on:
        if on.scalar(_OVERDUE.limit(at_most(1))) is None:
            return
    with database.write() as on:
        resolve_duplicates(on, Job.duplicate_of.in_(_expire_deadlines(on)), follow=("expired",))
    close_finished(database)


#: Open batches whose deadline has passed.
_OVERDUE = select(BatchRow.id).where(BatchRow.deadline_at <= now(), BatchRow.state.in_(OPEN))


def _expire_deadlines(on: Connection) -> list[int]:
    # Running ones too: their worker finds at its next renewal that it has lost them.
    unfinished = select(Job.id).where(Job.batch_id.in_(_OVERDUE), Job.state.in_(LIVE))
    ended = {"state": "expired", "lease_until": None, "finished_at": now()}
    return _change(on, "expired", unfinished, {**ended, "cancel_requested": False})


def _change(on: Connection, kind: str, which: Select[Any], values: dict[str, Any]) -> list[int]:
    # Rows that somebody else holds are his business; the next round finds what he leaves.
    mine = which.order_by(Job.id).with_for_update(skip_locked=True).correlate(None)
    changed = on.execute(
        update(Job).where(Job.id.in_(mine)).values(**values).returning(Job.id, Job.attempt)
    ).all()
    record(on, kind, [Change(*row) for row in changed])
    return [job_id for job_id, _ in changed]


def _due(on: Connection, grace_seconds: float) -> dict[str, int]:
    queues = on.scalars(select(ReviewerRow.queue).distinct().order_by(ReviewerRow.queue)).all()
    return {queue: n for queue in queues if (n := _due_on(on, queue, grace_seconds))}


def _due_on(on: Connection, queue: str, grace_seconds: float) -> int:
    some = queued_on(queue).where(Job.queued_at <= now() - grace_seconds).limit(at_most(MAX_DUE))
    return on.scalar(select(func.count()).select_from(some.subquery())) or 0
