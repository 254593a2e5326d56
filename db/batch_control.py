"""Operations on a batch: cancel, retry, pause and resume."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    exists,
    func,
    null,
    or_,
    select,
    update,
)

from db.batch_records import require_batch
from db.column_types import NEVER, now, storable
from db.duplicates import LIVE, OPEN, close_finished, resolve_duplicates
from db.job_events import Change, record
from db.schema import BatchRow, Job, PaperRow, PurgedPaper
from db.schema_data import JobInput
from db.session import Database
from errors import UserError

#: The most custom_ids that an error names.
_MAX_NAMED = 5

_RETRIABLE = ("failed", "cancelled", "expired")

_WITHOUT_TEXT = and_(
    Job.about.is_(None),
    or_(
        Job.paper_id.is_(None),
        exists().where(PurgedPaper.paper_id == Job.paper_id).correlate(Job),
        exists().where(JobInput.job_id == Job.id, JobInput.text == "").correlate(Job),
    ),
)


def cancel(database: Database, name: str, custom_ids: Sequence[str] | None = None) -> int:
    """Cancel a batch, or some of its papers; return the number of affected jobs.

    Queued jobs end at once, running ones when their worker notices; finished ones do not change.
    Raises UserError for an unknown batch or custom_id.
    """
    with database.write() as on:
        batch_id, chosen = choose(on, name, custom_ids)
        if custom_ids is None:
            on.execute(
                update(BatchRow)
                .where(BatchRow.id == batch_id, BatchRow.state.in_(("validating", "in_progress")))
                .values(state="cancelling")
            )
        number = _cancel_jobs(on, chosen.where(Job.state.in_(LIVE)))
        resolve_duplicates(on, Job.batch_id == batch_id, follow=())
    close_finished(database, name)
    return number


def _cancel_jobs(on: Connection, chosen: Select[int]) -> int:
    # One statement for both states, because a job may change from one to the other meanwhile.
    queued = Job.state == "queued"
    rows = on.execute(
        update(Job)
        .where(Job.id.in_(_in_order(chosen)), Job.state.in_(LIVE))
        .values(
            state=case((queued, "cancelled"), else_=Job.state),
            finished_at=case((queued, now()), else_=null()),
            cancel_requested=~queued,
        )
        .returning(Job.id, Job.attempt, Job.state)
    ).all()
    gone = [Change(job_id, attempt) for job_id, attempt, state in rows if state == "cancelled"]
    asked = [Change(job_id, attempt) for job_id, attempt, state in rows if state == "running"]
    return record(on, "cancelled", gone) + record(on, "cancel_requested", asked)


def retry(database: Database, name: str, custom_ids: Sequence[str] | None = None) -> int:
    """Requeue failed, cancelled and expired jobs with all their attempts; return how many.

    Papers without a text are skipped (`without_text` counts them). A deadline that has passed is
    removed. Raises UserError for an unknown batch or custom_id.
    """
    with database.write() as on:
        batch_id, chosen = choose(on, name, custom_ids)
        chosen = chosen.where(Job.state.in_(_RETRIABLE), ~_WITHOUT_TEXT)
        _keep_texts(on, chosen)
        rows = on.execute(
            update(Job)
            .where(Job.id.in_(_in_order(chosen)), Job.state.in_(_RETRIABLE))
            .values(
                state="queued",
                error_kind=None,
                error=None,
                finished_at=None,
                queued_at=now(),
                not_before=0.0,
                given_back=Job.attempt,
                crashes_alone=0,
                cancel_requested=False,
                deadline_at=case((Job.deadline_at <= now(), NEVER), else_=Job.deadline_at),
            )
            .returning(Job.id, Job.attempt)
        ).all()
        number = record(on, "retried", [Change(*row) for row in rows])
        if number:
            _reopen(on, batch_id)
        resolve_duplicates(on, Job.batch_id == batch_id, follow=("succeeded",))
    close_finished(database, name)
    return number


def _keep_texts(on: Connection, jobs: Select[int]) -> None:
    """Lock the jobs' papers against a purge, after waiting for one that has begun."""
    papers = jobs.with_only_columns(Job.paper_id)
    query = select(PaperRow.id).where(PaperRow.id.in_(papers)).order_by(PaperRow.id)
    on.execute(query.with_for_update(read=True, key_share=True))


def _reopen(on: Connection, batch_id: int) -> None:
    passed = BatchRow.deadline_at <= now()
    on.execute(
        update(BatchRow)
        .where(BatchRow.id == batch_id)
        .values(
            state=case((BatchRow.state == "validating", BatchRow.state), else_="in_progress"),
            deadline_at=case((passed, null()), else_=BatchRow.deadline_at),
            finished_at=None,
        )
    )


def without_text(database: Database, name: str) -> int:
    """Count the papers that need a new file: unreadable ones, and purged ones without a review."""
    with database.read() as on:
        batch_id = require_batch(on, name)
        which = (Job.batch_id == batch_id, Job.state.in_(_RETRIABLE), _WITHOUT_TEXT)
        return on.scalar(select(func.count(Job.custom_id.distinct())).where(*which)) or 0


def failed_custom_ids(database: Database, name: str) -> set[str]:
    """The custom_ids of the batch's failed papers, which new files may fix."""
    with database.read() as on:
        batch_id = require_batch(on, name)
        failed = select(Job.custom_id).where(Job.batch_id == batch_id, Job.state == "failed")
        return set(on.scalars(failed.distinct()))


def pause(database: Database, name: str) -> None:
    """Start no more jobs of the batch; running ones finish."""
    _hold(database, name, held=True)


def resume(database: Database, name: str) -> None:
    """Start a paused batch's jobs again."""
    _hold(database, name, held=False)


def pause_all(database: Database) -> list[str]:
    """Pause every unfinished batch; return the names of those that were not paused before."""
    return _hold_all(database, held=True)


def resume_all(database: Database) -> list[str]:
    """Resume every paused batch; return their names."""
    return _hold_all(database, held=False)


def _hold_all(database: Database, *, held: bool) -> list[str]:
    open_ones = select(BatchRow.name).where(BatchRow.state.in_(OPEN), BatchRow.paused != held)
    with database.read() as on:
        names = list(on.scalars(open_ones.order_by(BatchRow.id)))
    for name in names:
        # One transaction per batch, so that workers can claim jobs in between.
        _hold(database, name, held=held)
    return names


def _hold(database: Database, name: str, *, held: bool) -> None:
    with database.write() as on:
        batch_id = require_batch(on, name)
        on.execute(update(BatchRow).where(BatchRow.id == batch_id).values(paused=held))
        # Finished jobs too: a retry in a paused batch waits until it is resumed.
        jobs = select(Job.id).where(Job.batch_id == batch_id, Job.held != held)
        rows = on.execute(
            update(Job)
            .where(Job.id.in_(_in_order(jobs)))
            .values(held=held)
            .returning(Job.id, Job.attempt)
        ).all()
        record(on, "paused" if held else "resumed", [Change(*row) for row in rows])


def choose(on: Connection, name: str, custom_ids: Sequence[str] | None) -> tuple[int, Select[int]]:
    """The batch's id, and a query for the ids of its jobs, or of those with these custom_ids."""
    batch_id = require_batch(on, name)
    jobs = select(Job.id).where(Job.batch_id == batch_id)
    if custom_ids is None:
        return batch_id, jobs
    wanted = [storable(custom_id) for custom_id in custom_ids]
    chosen: ColumnElement[bool] = Job.custom_id.in_(wanted)
    known = set(on.scalars(select(Job.custom_id).where(Job.batch_id == batch_id, chosen)))
    unknown = sorted(set(wanted) - known)
    if unknown:
        named = ", ".join(unknown[:_MAX_NAMED]) + (" ..." if unknown[_MAX_NAMED:] else "")
        raise UserError(f"Batch {name!r} has no paper with the id {named}.")
    return batch_id, jobs.where(chosen)


def _in_order(jobs: Select[int]) -> Select[int]:
    # Transactions that lock many jobs lock them in one order, or they deadlock.
    return jobs.order_by(Job.id).with_for_update().correlate(None)
