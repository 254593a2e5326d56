"""Jobs as a submit makes them: originals, duplicates, and failed jobs for unreadable papers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    Connection,
    Select,
    Text,
    bindparam,
    case,
    func,
    insert,
    select,
    true,
    update,
)

from db import open_submits
from db.batch_records import Batch
from db.column_types import NEVER, at_most, now
from db.duplicates import promote_duplicate, resolve_duplicates
from db.job_events import Change, record
from db.schema import BatchRow, Job, ReviewRow
from errors import UserError


@dataclass(frozen=True)
class NewJob:
    """A sample of a custom_id that is to be queued with a paper, in the job that it has if any."""

    custom_id: str
    sample: int
    source: str
    paper_id: int
    job_id: int | None = None
    attempt: int = 0
    kind: str = "review"
    #: What it is about where that is not the paper's text.
    about: Mapping[str, Any] | None = None


class EnqueuedJobs(NamedTuple):
    """The jobs that tasks became."""

    originals: list[int]
    duplicates: list[int]


def lock_batch(on: Connection, batch: Batch) -> dict[str, Any]:
    """Lock the batch and give the columns that its jobs repeat. Raises UserError if it is over.

    The submit that opened it stays under way.
    """
    columns = select(BatchRow.state, BatchRow.paused, BatchRow.deadline_at)
    locked = columns.where(BatchRow.id == batch.id).with_for_update(key_share=True)
    state, paused, deadline_at = on.execute(locked).one()
    if batch.submit_id is not None and not open_submits.renew(on, batch.submit_id):
        open_submits.begin_again(on, batch.submit_id, batch.id)
        state = on.scalars(select(BatchRow.state).where(BatchRow.id == batch.id)).one()
    if state not in ("validating", "in_progress"):
        raise UserError(f"Batch {batch.name!r} is {state} and takes no more papers.")
    return {
        "batch_id": batch.id,
        "queue": batch.reviewer.queue,
        "reviewer_id": batch.reviewer.id,
        "priority": batch.options.priority,
        "deadline_at": NEVER if deadline_at is None else deadline_at,
        "held": paused,
    }


def select_named_jobs(
    on: Connection, batch_id: int, custom_ids: Set[str]
) -> Select[*tuple[Any, ...]]:
    """Select (custom_id, id, sample, paper_id, attempt) of the batch's jobs of these names.

    PostgreSQL plans this while the batch is small, and would go on to look through all of it for
    each name: 23,000 papers then take 70 s to submit instead of 20. So it is asked for one name at
    a time, and the index of names is the only one that serves.
    """
    columns = (Job.custom_id, Job.id, Job.sample, Job.paper_id, Job.attempt)
    if on.dialect.name == "sqlite":
        return select(*columns).where(Job.batch_id == batch_id, Job.custom_id.in_(custom_ids))
    names = bindparam("names", sorted(custom_ids), type_=ARRAY(Text()))
    asked = func.unnest(names).table_valued("name").render_derived("asked")
    # With an OFFSET it stays a query of its own; a sum is in no index.
    of_name = select(*columns).where(Job.custom_id == asked.c.name, Job.batch_id + 0 == batch_id)
    found = of_name.offset(at_most(0)).lateral("found")
    return select(found).select_from(asked.join(found, true()))


def enqueue(
    on: Connection, batch: Batch, batch_columns: Mapping[str, Any], tasks: Sequence[NewJob]
) -> EnqueuedJobs:
    """Queue the tasks; the first of a paper and sample in the batch is the original."""
    originals = _originals(on, batch, tasks)
    first: list[NewJob] = []
    later: list[NewJob] = []
    for task in tasks:
        key = (task.sample, task.paper_id)
        (later if key in originals else first).append(task)
        originals.setdefault(key, 0)
    made = _queue(on, batch, batch_columns, [(task, None) for task in first])
    record(on, "queued", made)
    originals |= {
        (task.sample, task.paper_id): job.job_id for task, job in zip(first, made, strict=True)
    }
    follow = [(task, originals[task.sample, task.paper_id]) for task in later]
    followers = _queue(on, batch, batch_columns, follow)
    record(on, "duplicate", followers)
    ids = [job.job_id for job in followers]
    promoted = resolve_duplicates(on, Job.id.in_(ids), follow=("succeeded", "failed"))
    return EnqueuedJobs([job.job_id for job in made] + promoted, ids)


def add_failed_jobs(
    on: Connection,
    batch: Batch,
    batch_columns: Mapping[str, Any],
    failures: Sequence[Mapping[str, Any]],
) -> None:
    """Enter papers that could not be read: {custom_id, sample, source, error_kind, error} each."""
    rows = [
        {
            **batch_columns,
            **failure,
            "seed": seed_of(batch.name, failure["custom_id"], failure["sample"]),
            "state": "failed",
        }
        for failure in failures
    ]
    failed_jobs = zip(_insert(on, rows, finished_at=now()), rows, strict=True)
    for job, row in failed_jobs:
        record(on, "failed", [job], detail={"kind": row["error_kind"], "error": row["error"]})


def supersede(on: Connection, job_ids: Sequence[int]) -> None:
    """Take the jobs' papers away, so that others may come; a review that was written is kept.

    A duplicate takes over, with the review. The job stays behind as a dead letter without a paper,
    for `enqueue` in the same transaction.
    """
    for job_id in job_ids:
        duplicate = on.execute(_best_duplicate(job_id)).first()
        review_id = on.scalar(
            update(ReviewRow)
            .where(ReviewRow.job_id == job_id)
            .values(
                job_id=duplicate.id
                if duplicate is not None and duplicate.state == "succeeded"
                else None
            )
            .returning(ReviewRow.id)
        )
        # Before a duplicate replaces it: a running job cannot be a duplicate of another.
        job = on.execute(
            update(Job).where(Job.id == job_id).values(**_EMPTIED).returning(Job.id, Job.attempt)
        ).one()
        if duplicate is not None:
            promote_duplicate(on, job_id, duplicate.id)
        record(on, "superseded", [Change(*job)], detail={"review_id": review_id})


def seed_of(batch_name: str, custom_id: str, sample: int) -> int:
    """Give a job's seed, below 2**31: the same submit gives the same reviews again."""
    digest = hashlib.sha256(f"{batch_name}\0{custom_id}\0{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


#: A superseded job between two papers.
_EMPTIED: dict[str, Any] = {
    "state": "failed",
    "error_kind": "superseded",
    "error": "Its paper was replaced.",
    "paper_id": None,
    "duplicate_of": None,
    "lease_until": None,
    "finished_at": now(),
    "cancel_requested": False,
}
#: A job that had no paper and gets one: everything that an earlier attempt left is undone, but
#: `attempt` only grows.
_QUEUED: dict[str, Any] = {
    "state": "queued",
    "error_kind": None,
    "error": None,
    "finished_at": None,
    "not_before": 0.0,
    "queued_at": now(),
    "given_back": Job.attempt,
    "n_prompt_tokens": None,
    "n_output_tokens": None,
    "truncated_tokens": None,
    "seconds": None,
}


def _best_duplicate(job_id: int) -> Any:
    # One that fared as the original did comes first: only that one can own its review.
    original = select(Job.state).where(Job.id == job_id).correlate(None).scalar_subquery()
    likeness = case((Job.state == original, 0), (Job.state == "queued", 1), else_=2)
    return (
        select(Job.id, Job.state)
        .where(Job.duplicate_of == job_id)
        .order_by(likeness, Job.id)
        .limit(at_most(1))
    )


def _originals(on: Connection, batch: Batch, tasks: Sequence[NewJob]) -> dict[tuple[int, int], int]:
    query = select(Job.sample, Job.paper_id, Job.id).where(
        Job.batch_id == batch.id,
        Job.paper_id.in_({task.paper_id for task in tasks}),
        Job.duplicate_of.is_(None),
    )
    return {(sample, paper_id or 0): job_id for sample, paper_id, job_id in on.execute(query)}


def _queue(
    on: Connection,
    batch: Batch,
    batch_columns: Mapping[str, Any],
    tasks: Sequence[tuple[NewJob, int | None]],
) -> list[Change]:
    fresh = [
        {
            **batch_columns,
            **_columns(task, original),
            "custom_id": task.custom_id,
            "sample": task.sample,
            "seed": seed_of(batch.name, task.custom_id, task.sample),
            "state": "queued",
        }
        for task, original in tasks
        if task.job_id is None
    ]
    made = iter(_insert(on, fresh))
    again = [
        {"b_id": task.job_id, **_columns(task, original)}
        for task, original in tasks
        if task.job_id is not None
    ]
    if again:
        on.execute(update(Job).where(Job.id == bindparam("b_id")).values(**_QUEUED), again)
    return [
        next(made) if task.job_id is None else Change(task.job_id, task.attempt)
        for task, _ in tasks
    ]


def _columns(task: NewJob, original: int | None) -> dict[str, Any]:
    return {
        "kind": task.kind,
        "about": task.about,
        "source": task.source,
        "paper_id": task.paper_id,
        "duplicate_of": original,
    }


def _insert(on: Connection, rows: Sequence[Mapping[str, Any]], **shared: Any) -> list[Change]:
    """Make jobs of one batch and find them by their names.

    A RETURNING would make it one statement of 3,000 parameters, which psycopg parses anew each
    time: a third of what a submit computed.
    """
    if not rows:
        return []
    on.execute(insert(Job).values(**shared), list(rows))
    made = on.execute(
        select_named_jobs(on, rows[0]["batch_id"], {row["custom_id"] for row in rows})
    )
    changes = {(job.custom_id, job.sample): Change(job.id, job.attempt) for job in made}
    return [changes[row["custom_id"], row["sample"]] for row in rows]
