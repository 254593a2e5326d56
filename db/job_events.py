"""The audit trail of jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select

from db.schema import JobEvent
from db.session import Database


class Change(NamedTuple):
    """A job whose row a statement has just changed, as its RETURNING gives it."""

    job_id: int
    attempt: int


@dataclass(frozen=True)
class Event:
    """Something that happened to a job. `created_at` is in epoch seconds."""

    kind: str
    attempt: int
    worker: str | None
    detail: Mapping[str, Any]
    created_at: float


# Built once: putting a statement together takes longer than running it.
_RECORD = insert(JobEvent)


def record(
    on: Connection,
    kind: str,
    changes: Iterable[Change],
    *,
    worker: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> int:
    """Write one event a change, in the transaction that made it; return how many."""
    rows = [
        {"job_id": job_id, "attempt": attempt, "kind": kind, "worker": worker, "detail": detail}
        for job_id, attempt in changes
    ]
    if rows:
        on.execute(_RECORD, rows)
    return len(rows)


def record_event(
    database: Database, job_id: int, attempt: int, kind: str, detail: Mapping[str, Any]
) -> None:
    """Keep something that changed no state, e.g. a text that the gate rejected."""
    with database.write() as on:
        record(on, kind, [Change(job_id, attempt)], detail=detail)


def events(database: Database, job_id: int) -> list[Event]:
    """Tell a job's history, oldest first."""
    query = (
        select(
            JobEvent.kind, JobEvent.attempt, JobEvent.worker, JobEvent.detail, JobEvent.created_at
        )
        .where(JobEvent.job_id == job_id)
        .order_by(JobEvent.id)
    )
    with database.read() as on:
        return [
            Event(kind, attempt, worker, detail or {}, at)
            for kind, attempt, worker, detail, at in on.execute(query)
        ]
