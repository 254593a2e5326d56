"""How a worker takes a job and keeps it: claims and leases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Select,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from db.column_types import at_most, now
from db.job_events import Change, record
from db.reviewers import COLUMNS as REVIEWER_COLUMNS
from db.reviewers import ReviewerVersion, version_of
from db.schema import CLAIMABLE_ON_QUEUE, BatchRow, Job, PaperRow, ReviewerRow
from db.schema_data import JobInput
from db.session import Database

#: A job's id and which attempt at it this is.
Attempt = tuple[int, int]


@dataclass(frozen=True)
class Claim:
    """A job that a worker holds until its lease ends. `attempt` is the fencing number.

    `text` is what the model reads: the job's own input if it has one, else the paper's text. It is
    empty for a job that is `about` something else.
    """

    job_id: int
    #: Which handler does it, a key of `dispatch.kinds.KINDS`.
    kind: str
    about: Mapping[str, Any] | None
    attempt: int
    batch_name: str
    custom_id: str
    sample: int
    seed: int
    paper_id: int
    paper_sha256: str
    title: str
    text: str
    reviewer: ReviewerVersion
    allow_external: bool
    #: Seconds between queued and claimed.
    waited: float
    worker: str
    max_attempts: int
    #: Engines and workers that broke down while they held it, with others or alone.
    crashes: int
    #: Nothing else is in its engine as long as this worker holds it.
    alone: bool
    #: 0 is high, 1 normal, 2 low.
    priority: int
    #: How often it has been preempted, see `claim_urgent`.
    preemptions: int

    @property
    def key(self) -> Attempt:
        """What fences it."""
        return self.job_id, self.attempt


@dataclass(frozen=True)
class CrashFilter:
    """Which jobs a worker may take, by the crashes that they were in, and whom it keeps alone.

    When an engine or a worker breaks down, each of its papers may be the cause. They are tried
    again in ever smaller groups (`worker.crash_isolation`), until the cause is alone: only there
    does a crash count against a paper.
    """

    min_crashes: int
    max_crashes: int
    #: A job that was in so many crashes is taken only when, and as long as, nothing else is held.
    alone_from: int


#: Jobs that one transaction claims at most: their texts, of 40 kB each, are read in it.
MAX_CLAIMS = 16
#: `job.priority` of a job that preempts others, whatever its deadline.
HIGH_PRIORITY = 0
#: A job is preempted at most this often in its life: what its engine has done for it is lost, and
#: a stream of urgent jobs must not keep it from ever being finished.
MAX_PREEMPTIONS = 2
#: For a worker that takes one job at a time: any job, and each is alone.
ONE_AT_A_TIME = CrashFilter(min_crashes=0, max_crashes=1 << 30, alone_from=0)


@dataclass(frozen=True)
class Renewal:
    """Which of the held attempts are no longer this worker's, and which it should stop."""

    lost: frozenset[Attempt]
    cancelled: frozenset[Attempt]


def claim(
    database: Database,
    most: int,
    *,
    queues: Sequence[str],
    kinds: Iterable[str],
    worker: str,
    lease_seconds: float,
    max_attempts: int,
    crash_filter: CrashFilter = ONE_AT_A_TIME,
) -> list[Claim]:
    """Take the next jobs of the queues, `most` or fewer: by priority, then deadline, then age.

    Jobs of other kinds stay where they are.

    `crash_filter` says which of the jobs that were in crashes the worker may take now. Only with a
    first that was in none come others, and these were in none either. Empty: there is no work.
    """
    parameters = {"by_worker": worker, "lease": lease_seconds, "kinds": list(kinds)}
    parameters |= {_queue_parameter(index): queue for index, queue in enumerate(queues)}
    with database.write() as on:
        taken = _taken(on, 1, len(queues), parameters, crash_filter)
        n_more = min(most, MAX_CLAIMS) - 1
        if n_more > 0 and any(crashes == 0 for crashes in taken.values()):
            no_crashes = replace(crash_filter, max_crashes=0)
            taken |= _taken(on, n_more, len(queues), parameters, no_crashes)
        if not taken:
            return []
        record(on, "claimed", taken, worker=worker)
        return _claims_of(on, taken, worker, max_attempts)


def claim_urgent(
    database: Database,
    *,
    below: int,
    within_seconds: float,
    queues: Sequence[str],
    kinds: Iterable[str],
    worker: str,
    lease_seconds: float,
    max_attempts: int,
) -> Claim | None:
    """Take the best job that may preempt one of priority `below`; None if none waits.

    It has a higher priority, and that is high or its deadline passes within `within_seconds`. Jobs
    that were in a crash preempt none: it depends on the rest of the engine when they may be taken.
    """
    parameters = {"below": below, "within": within_seconds, "kinds": list(kinds)}
    parameters |= {_queue_parameter(index): queue for index, queue in enumerate(queues)}
    no_crashes = {"min_crashes": 0, "max_crashes": 0}
    # Nearly always nothing waits: SQLite lets one writer in at a time.
    with database.read() as on:
        if not on.scalar(_urgent_waits(len(queues)), {**parameters, **no_crashes}):
            return None
    # Not alone: the preempted job is in the engine until its thread has given it back.
    holder = {"by_worker": worker, "lease": lease_seconds, "alone_from": 1}
    with database.write() as on:
        take = _take_queued(1, len(queues), urgent=True)
        row = on.execute(take, {**parameters, **no_crashes, **holder}).first()
        if row is None:
            return None  # another worker was faster
        taken = Change(*row[:2])
        record(on, "claimed", [taken], worker=worker)
        (claimed,) = _claims_of(on, [taken], worker, max_attempts)
        return claimed


@cache
def _urgent_waits(n_queues: int) -> Select[bool]:
    each = (_queued(index, urgent=True) for index in range(n_queues))
    return select(or_(*(waiting.order_by(None).exists() for waiting in each)))


def _taken(
    on: Connection,
    most: int,
    n_queues: int,
    parameters: Mapping[str, Any],
    crash_filter: CrashFilter,
) -> dict[Change, int]:
    """Take up to so many jobs; give them with the crashes that they were in."""
    rows = on.execute(_take_queued(most, n_queues), {**parameters, **vars(crash_filter)})
    return {Change(job_id, attempt): crashes for job_id, attempt, crashes in rows}


def queued_on(queue: ColumnElement[str] | str) -> Select[int]:
    """Select the jobs of a queue that could be claimed at this moment."""
    return _claimable(CLAIMABLE_ON_QUEUE).where(Job.queue == queue)


def has_live_jobs(database: Database, queues: Sequence[str], kinds: Iterable[str]) -> bool:
    """Whether a job of these queues and kinds waits or runs, under any worker's lease.

    A job that waits out a delay after a failure counts, and so does one whose lease ran out: it
    may have to be done again. Queued jobs of a paused batch, and those past their deadline, do not.
    """
    wanted = (Job.queue.in_(queues), Job.kind.in_(list(kinds)))
    waiting = exists().where(text(CLAIMABLE_ON_QUEUE), *wanted, Job.deadline_at > now())
    running = exists().where(text("state = 'running'"), *wanted)
    with database.read() as on:
        return bool(on.scalar(select(or_(waiting, running))))


def _claimable(predicate: str) -> Select[int]:
    return select(Job.id).where(text(predicate), Job.not_before <= now(), Job.deadline_at > now())


@cache
def _take_queued(
    most: int, n_queues: int = 1, urgent: bool = False
) -> ReturningUpdate[int, int, int]:
    """Take the first candidates that no other worker is taking, or of those that may preempt.

    Built once for each number: putting such a statement together takes longer than running it.
    """
    # As an expression of its own, it is evaluated once on PostgreSQL.
    best = _best(most, n_queues, urgent).cte("best")
    return (
        update(Job)
        .where(Job.id.in_(select(best.c.id)))
        .values(
            state="running",
            attempt=Job.attempt + 1,
            worker=bindparam("by_worker"),
            lease_until=now() + bindparam("lease", type_=Double()),
            started_at=now(),
            alone=Job.crashes >= bindparam("alone_from"),
        )
        .returning(Job.id, Job.attempt, Job.crashes)
    )


def _best(most: int, n_queues: int, urgent: bool) -> Select[int]:
    """Select the best candidates of one queue or several, each locked.

    Each queue's come from the index in order; the best of several are found among them. `queue IN`
    would sort all that the queues hold. A candidate that is not taken stays locked until the claim
    is committed; other workers pass over it.
    """
    each = [_queued(index, urgent).limit(at_most(most)) for index in range(n_queues)]
    locked = [part.with_for_update(skip_locked=True) for part in each]
    if n_queues == 1:
        return locked[0].with_only_columns(Job.id)
    parts = [part.subquery() for part in locked]
    candidates = union_all(
        *(select(part.c.id, part.c.priority, part.c.deadline_at) for part in parts)
    ).subquery()
    return (
        select(candidates.c.id)
        .order_by(candidates.c.priority, candidates.c.deadline_at, candidates.c.id)
        .limit(at_most(most))
    )


def _queued(index: int, urgent: bool) -> Select[int, int, float]:
    fits = Job.crashes.between(bindparam("min_crashes"), bindparam("max_crashes"))
    known = Job.kind.in_(bindparam("kinds", expanding=True))
    on_queue = queued_on(bindparam(_queue_parameter(index))).where(fits, known)
    if urgent:
        due = Job.deadline_at < now() + bindparam("within", type_=Double())
        on_queue = on_queue.where(
            Job.priority < bindparam("below"), or_(Job.priority == HIGH_PRIORITY, due)
        )
    columns = (Job.id, Job.priority, Job.deadline_at)
    return on_queue.with_only_columns(*columns).order_by(Job.priority, Job.deadline_at, Job.id)


def _queue_parameter(index: int) -> str:
    return f"queue_{index}"


_DETAILS = (
    select(
        Job.id.label("job_id"),
        Job.attempt,
        BatchRow.name.label("batch_name"),
        *(Job.kind, Job.about),
        *(Job.custom_id, Job.sample, Job.seed, Job.paper_id, Job.crashes, Job.alone),
        *(Job.priority, Job.preemptions),
        *(BatchRow.allow_external, PaperRow.sha256.label("paper_sha256"), PaperRow.title),
        case((Job.about.is_(None), func.coalesce(JobInput.text, PaperRow.body)), else_="").label(
            "text"
        ),
        (Job.started_at - Job.queued_at).label("waited"),
        *REVIEWER_COLUMNS,
    )
    .join_from(Job, BatchRow, BatchRow.id == Job.batch_id)
    .join(PaperRow, PaperRow.id == Job.paper_id)
    .join(ReviewerRow, ReviewerRow.id == Job.reviewer_id)
    .outerjoin(JobInput, JobInput.job_id == Job.id)
    .where(Job.id.in_(bindparam("job_ids", expanding=True)))
    .order_by(Job.priority, Job.deadline_at, Job.id)
)


def _claims_of(
    on: Connection, taken: Iterable[Change], worker: str, max_attempts: int
) -> list[Claim]:
    rows = on.execute(_DETAILS, {"job_ids": [job_id for job_id, _ in taken]}).mappings()
    return [
        Claim(
            reviewer=version_of(row),
            worker=worker,
            max_attempts=max_attempts,
            **{name: value for name, value in row.items() if not name.startswith("reviewer_")},
        )
        for row in rows
    ]


def renew(database: Database, *, worker: str, held: Set[Attempt], lease_seconds: float) -> Renewal:
    """Prolong the leases of the held attempts; say what became of them."""
    if not held:
        return Renewal(frozenset(), frozenset())
    mine = (
        select(Job.id)
        .where(Job.id.in_({job_id for job_id, _ in held}))
        .where(Job.worker == worker, Job.state == "running")
        .order_by(Job.id)
        .with_for_update()
        .correlate(None)
    )
    with database.write() as on:
        renewed = on.execute(
            update(Job)
            .where(Job.id.in_(mine))
            .values(lease_until=now() + lease_seconds)
            .returning(Job.id, Job.attempt, Job.cancel_requested)
        ).all()
    kept = held & {(job_id, attempt) for job_id, attempt, _ in renewed}
    stop = {(job_id, attempt) for job_id, attempt, cancel_requested in renewed if cancel_requested}
    return Renewal(frozenset(held - kept), frozenset(stop & kept))
