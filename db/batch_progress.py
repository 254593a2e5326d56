"""Progress of batches: counts, throughput, cost and remaining time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import Connection, RowMapping, Select, func, select

from db.batch_records import require_batch
from db.column_types import now
from db.duplicates import LIVE
from db.flags import Canary, canaries_of, count_flagged
from db.schema import BatchRow, Job, JobState, ReviewerRow
from db.session import Database

#: Seconds over which the throughput of a running batch is measured: over its whole life, a batch
#: that was paused overnight would look slow for hours.
PACE_WINDOW_SECONDS = 600.0

#: States in which a paused batch is shown as "paused".
PAUSABLE = ("validating", "in_progress")


@dataclass(frozen=True)
class BatchStatus:
    """A batch at one moment. Times are in epoch seconds; `seconds` is the total generation time.

    `counts` has total and each job state. `papers_per_hour` and `eta_s` are None when nothing has
    succeeded lately, or nothing is left. `flagged_papers` have a flag that is not the venue's.
    """

    name: str
    state: str
    reviewer: str
    version: int
    counts: dict[str, int]
    errors: dict[str, int]
    papers_per_hour: float | None
    eta_s: float | None
    prompt_tokens: int
    output_tokens: int
    truncated_papers: int
    flagged_papers: int
    canary_papers: int
    canaries: tuple[Canary, ...]
    seconds: float
    created_at: float
    finished_at: float | None


def status(database: Database, name: str) -> BatchStatus:
    """The progress of a batch. Raises UserError when there is none of that name."""
    with database.read() as on:
        return _status(on, require_batch(on, name))


def statuses(database: Database) -> list[BatchStatus]:
    """The progress of all batches, in the order of submission."""
    with database.read() as on:
        return [
            _status(on, batch_id)
            for batch_id in on.scalars(select(BatchRow.id).order_by(BatchRow.id))
        ]


@dataclass(frozen=True)
class FailedJob:
    """A job that failed, with its sentence."""

    paper_id: int | None
    sample: int
    error: str


def failures(database: Database, name: str) -> list[FailedJob]:
    """The failed jobs of the batch of that name."""
    query = (
        select(Job.paper_id, Job.sample, Job.error)
        .join(BatchRow, BatchRow.id == Job.batch_id)
        .where(BatchRow.name == name, Job.state == "failed")
        .order_by(Job.id)
    )
    with database.read() as on:
        return [
            FailedJob(paper_id, sample, error or "")
            for paper_id, sample, error in on.execute(query)
        ]


def n_live(database: Database, name: str) -> int:
    """Count the jobs of the batch of that name that wait or run; 0 when there is no such batch."""
    live = (
        select(func.count())
        .join_from(Job, BatchRow, BatchRow.id == Job.batch_id)
        .where(BatchRow.name == name, Job.state.in_(LIVE))
    )
    with database.read() as on:
        return on.scalar(live) or 0


def _status(on: Connection, batch_id: int) -> BatchStatus:
    row = on.execute(_progress(batch_id)).mappings().one()
    counts = {name: row[name] for name in ("total", *get_args(JobState))}
    left = sum(counts[state] for state in LIVE)
    pace = _pace(row, left)
    canaries = canaries_of(on, batch_id)
    same = ("name", "reviewer", "version", "prompt_tokens", "output_tokens", "truncated_papers")
    return BatchStatus(
        **{name: row[name] for name in (*same, "seconds", "created_at", "finished_at")},
        state="paused" if row["paused"] and row["state"] in PAUSABLE else row["state"],
        counts=counts,
        errors={str(kind): n for kind, n in on.execute(_errors(batch_id))},
        papers_per_hour=None if pace is None else round(pace * 3600, 1),
        eta_s=round(left / pace, 1) if pace and left and not row["paused"] else None,
        flagged_papers=count_flagged(on, batch_id, canaries, canary=False),
        canary_papers=count_flagged(on, batch_id, canaries, canary=True) if canaries else 0,
        canaries=tuple(canaries.values()),
    )


def _pace(row: RowMapping, left: int) -> float | None:
    """Succeeded jobs per second, in the last minutes while jobs are left, else over all."""
    if row["first_started_at"] is None:
        return None
    if left:
        done = row["recent"]
        span = min(PACE_WINDOW_SECONDS, row["now"] - row["first_started_at"])
    else:
        done = row["succeeded"]
        span = (row["last_finished_at"] or row["now"]) - row["first_started_at"]
    return done / span if done and span > 0 else None


def _progress(batch_id: int) -> Select[*tuple[Any, ...]]:
    succeeded = Job.state == "succeeded"
    return (
        select(
            *(
                BatchRow.name,
                BatchRow.state,
                BatchRow.paused,
                BatchRow.created_at,
                BatchRow.finished_at,
            ),
            *(ReviewerRow.name.label("reviewer"), ReviewerRow.version, now().label("now")),
            func.count(Job.id).label("total"),
            *(func.count().filter(Job.state == state).label(state) for state in get_args(JobState)),
            func.count()
            .filter(succeeded, Job.finished_at > now() - PACE_WINDOW_SECONDS)
            .label("recent"),
            func.min(Job.started_at).label("first_started_at"),
            func.max(Job.finished_at).filter(succeeded).label("last_finished_at"),
            func.coalesce(func.sum(Job.n_prompt_tokens), 0).label("prompt_tokens"),
            func.coalesce(func.sum(Job.n_output_tokens), 0).label("output_tokens"),
            func.count().filter(Job.truncated_tokens > 0).label("truncated_papers"),
            func.coalesce(func.sum(Job.seconds), 0.0).label("seconds"),
        )
        .join_from(BatchRow, ReviewerRow, ReviewerRow.id == BatchRow.reviewer_id)
        .outerjoin(Job, Job.batch_id == BatchRow.id)
        .where(BatchRow.id == batch_id)
        .group_by(BatchRow.id, ReviewerRow.id)
    )


def _errors(batch_id: int) -> Select[str | None, int]:
    return (
        select(Job.error_kind, func.count())
        .where(Job.batch_id == batch_id, Job.state == "failed")
        .group_by(Job.error_kind)
        .order_by(func.count().desc(), Job.error_kind)
    )
