"""What follows from a job's end: its duplicates' end, and its batch's.

A duplicate has the same paper as its original in the same batch and sample. While one is queued
its original is queued or running: it ends as the original does, or takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Update,
    bindparam,
    case,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.orm import aliased

from db.column_types import at_most, now
from db.job_events import Change, record
from db.schema import BatchRow, Job
from db.session import Database

#: States of a job that will still change by itself.
LIVE = ("queued", "running")
#: States of a batch whose jobs may still run.
OPEN = ("validating", "in_progress", "cancelling")


class PromotedDuplicate(NamedTuple):
    """The duplicate that takes an original's place."""

    original: int
    duplicate: int


def resolve_duplicates(
    on: Connection, which: ColumnElement[bool], *, follow: Iterable[str]
) -> list[int]:
    """Settle the queued duplicates whose original has ended; `which` selects jobs by `Job`.

    Those whose original's state is in `follow` end in that state. For the others a duplicate takes
    the original's place. Returns the new originals, which are claimable.
    """
    _follow(on, which, tuple(follow))
    promotions = _duplicates_to_promote(on, which)
    for original, duplicate in promotions:
        promote_duplicate(on, original, duplicate)
    return [duplicate for _, duplicate in promotions]


def _follow(on: Connection, which: ColumnElement[bool], states: tuple[str, ...]) -> None:
    original = aliased(Job)
    ended = on.execute(
        update(Job)
        .where(
            which,
            Job.state == "queued",
            Job.duplicate_of == original.id,
            original.state.in_(states),
        )
        .values(
            state=original.state,
            error_kind=original.error_kind,
            error=original.error,
            finished_at=now(),
        )
        .returning(Job.id, Job.attempt, original.id, original.state)
    ).all()
    for job_id, attempt, original_id, state in ended:
        record(on, state, [Change(job_id, attempt)], detail={"duplicate_of": original_id})


def _duplicates_to_promote(on: Connection, which: ColumnElement[bool]) -> list[PromotedDuplicate]:
    original = aliased(Job)
    query = (
        select(original.id, func.min(Job.id))
        .where(
            which,
            Job.state == "queued",
            Job.duplicate_of == original.id,
            original.state.not_in((*LIVE, "succeeded")),
        )
        .group_by(original.id)
    )
    return [PromotedDuplicate(*row) for row in on.execute(query)]


def promote_duplicate(on: Connection, original: int, duplicate: int) -> None:
    """Put `duplicate` in the place of `original`, for the paper and for its other duplicates."""
    # Demote the others first: a paper must never have two originals at the same time.
    demoted = ((Job.id == original) & Job.paper_id.is_not(None)) | (Job.duplicate_of == original)
    on.execute(update(Job).where(demoted, Job.id != duplicate).values(duplicate_of=duplicate))
    changed = on.execute(
        update(Job)
        .where(Job.id == duplicate)
        .values(duplicate_of=None)
        .returning(Job.id, Job.attempt)
    )
    record(on, "promoted", [Change(*row) for row in changed], detail={"was_duplicate_of": original})


def close_finished(database: Database, batch_name: str | None = None) -> int:
    """End the batch of that name, or all, whose jobs have ended; return how many.

    A transaction of its own, after the one that ended a job: of two that end the last two jobs at
    the same time, neither would see the other's.
    """
    look, close = _CLOSE_ALL if batch_name is None else _CLOSE_NAMED
    names = {} if batch_name is None else {"batch_name": batch_name}
    with database.read() as on:
        if on.scalar(look, names) is None:
            return 0
    with database.write() as on:
        return on.execute(close, names).rowcount


def _closing(*which: ColumnElement[bool]) -> tuple[Select[int], Update]:
    live = exists().where(Job.batch_id == BatchRow.id, Job.state.in_(LIVE))
    expired = exists().where(Job.batch_id == BatchRow.id, Job.state == "expired")
    finished = (*which, BatchRow.state.in_(("in_progress", "cancelling")), ~live)
    state = case(
        (BatchRow.state == "cancelling", "cancelled"), (expired, "expired"), else_="completed"
    )
    close = update(BatchRow).where(*finished).values(state=state, finished_at=now())
    return select(BatchRow.id).where(*finished).limit(at_most(1)), close


# Built once: putting such a statement together takes longer than running it.
_CLOSE_ALL = _closing()
_CLOSE_NAMED = _closing(BatchRow.name == bindparam("batch_name"))
