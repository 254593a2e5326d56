"""How a job leaves a worker: with a result, an error, or back to the queue.

Every write is fenced: it changes nothing unless the job still runs under this worker and attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Integer,
    bindparam,
    exists,
    insert,
    select,
    update,
)
from sqlalchemy.orm import aliased
from sqlalchemy.sql.dml import ReturningUpdate

from db.claims import MAX_PREEMPTIONS, Claim
from db.column_types import now
from db.crash_rule import CAUSE_SENTENCE, CRASH, crash_values, ended_by_crash, is_crash_cause
from db.duplicates import close_finished, resolve_duplicates
from db.job_events import Change, record
from db.schema import ItemRow, Job, ReviewRow
from db.session import Database


@dataclass(frozen=True)
class Cost:
    """What a job's result took: tokens by the engine's tokenizer, and seconds of generation."""

    n_prompt_tokens: int = 0
    n_output_tokens: int = 0
    truncated_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class NewItem:
    """One titled point; `position` counts from 0 within its aspect."""

    aspect: str
    position: int
    title: str
    text: str


@dataclass(frozen=True)
class NewReview:
    """A review to store. Token counts are the engine's tokenizer's; `seconds` of generation."""

    raw: str
    items: Sequence[NewItem]
    empty_aspects: Sequence[str]
    unplaced: str
    adapter_sha256: str | None
    seed: int
    n_prompt_tokens: int
    n_output_tokens: int
    truncated_tokens: int
    finish: str
    seconds: float
    gate: Sequence[Mapping[str, Any]]
    versions: Mapping[str, str]

    @property
    def cost(self) -> Cost:
        """What the review took, repeated on its job."""
        return Cost(self.n_prompt_tokens, self.n_output_tokens, self.truncated_tokens, self.seconds)


class _RemainingJobs(NamedTuple):
    """What a job that has changed leaves behind."""

    #: Has it duplicates?
    duplicates: bool
    #: Is another job of its batch queued?
    queued: bool


def commit(
    database: Database, claim: Claim, cost: Cost, store: Callable[[Connection], object]
) -> bool:
    """Store a job's result and end the job, in one transaction.

    `store` writes the result on the transaction's connection. False: the job was lost before, and
    nothing is written.
    """
    with database.write() as on:
        values = {f"new_{name}": value for name, value in vars(cost).items()}
        left = _end(on, claim, "succeeded", _SUCCEED, values)
        if left is None:
            return False
        store(on)
    _close(database, claim, left)
    return True


def commit_review(database: Database, claim: Claim, review: NewReview) -> bool:
    """Store the review with its items and end the job. False: the job was lost before."""
    return commit(database, claim, review.cost, lambda on: _store(on, claim, review))


def release(
    database: Database,
    claim: Claim,
    *,
    reason: str,
    delay_seconds: float = 0.0,
    keep_attempt: bool = False,
) -> bool:
    """Give the job back to the queue; nobody claims it before the delay is over.

    With `keep_attempt` the attempt does not count. A job without attempts left fails with kind
    "attempts", one that was to be cancelled is cancelled. False: the job was lost before.
    """
    parameters = {"delay": delay_seconds, "kept": int(keep_attempt), "most": claim.max_attempts}
    detail = {"reason": reason, "delay_seconds": delay_seconds, "keep_attempt": keep_attempt}
    with database.write() as on:
        if _change(on, claim, "released", _RELEASE, parameters, detail) is not None:
            return True
    if _end_alone(database, claim, "cancelled", _CANCEL_ASKED):
        return True
    return fail(database, claim, kind="attempts", sentence=_used_up(claim.max_attempts, reason))


def preempted(database: Database, claim: Claim, *, by: Claim) -> bool:
    """Give the job back for a more urgent one; the attempt does not count.

    One that was to be cancelled is cancelled. False: the job was lost before.
    """
    detail = {"by": by.job_id, "custom_id": by.custom_id, "batch": by.batch_name}
    with database.write() as on:
        if _change(on, claim, "preempted", _PREEMPT, None, detail) is not None:
            return True
    return _end_alone(database, claim, "cancelled", _CANCEL_ASKED)


def crashed(database: Database, claim: Claim, *, reason: str) -> bool:
    """Give the job back after the engine broke down with all that was in it.

    One that was alone there too often fails with kind "crash", one without attempts left with kind
    "attempts". False: the job was lost before.
    """
    parameters = {"most": claim.max_attempts}
    with database.write() as on:
        if _change(on, claim, "crashed", _CRASH, parameters, {"reason": reason}) is not None:
            return True
    if _end_alone(database, claim, "cancelled", _CANCEL_ASKED):
        return True
    cause = f"{claim.custom_id}{CAUSE_SENTENCE} The last time: {reason}"
    detail = {"kind": CRASH, "error": cause}
    cause_parameters = {"with_kind": CRASH, "sentence": cause}
    if _end_alone(database, claim, "failed", _FAIL_AS_CAUSE, cause_parameters, detail):
        return True
    return fail(database, claim, kind="attempts", sentence=_used_up(claim.max_attempts, reason))


def fail(database: Database, claim: Claim, *, kind: str, sentence: str) -> bool:
    """Fail the job and its duplicates. Returns False if the worker had lost the job."""
    parameters = {"with_kind": kind, "sentence": sentence}
    return _end_alone(
        database, claim, "failed", _FAIL, parameters, {"kind": kind, "error": sentence}
    )


def _used_up(max_attempts: int, reason: str) -> str:
    return f"{max_attempts} attempts ended without a result; the last: {reason}"


def cancelled(database: Database, claim: Claim) -> bool:
    """End the job as cancelled; a duplicate takes its place. False: the job was lost before."""
    return _end_alone(database, claim, "cancelled", _CANCEL)


def _store(on: Connection, claim: Claim, review: NewReview) -> None:
    values = {name: value for name, value in vars(review).items() if name != "items"}
    owner = {
        "paper_id": claim.paper_id,
        "reviewer_id": claim.reviewer.id,
        "job_id": claim.job_id,
    }
    review_id = on.scalar(_STORE_REVIEW, {**values, **owner})
    if review.items:
        items = [{"review_id": review_id, **vars(item)} for item in review.items]
        on.execute(_STORE_ITEMS, items)


def _end_alone(
    database: Database,
    claim: Claim,
    kind: str,
    ending: ReturningUpdate[bool, bool],
    parameters: Mapping[str, Any] | None = None,
    detail: Mapping[str, Any] | None = None,
) -> bool:
    with database.write() as on:
        left = _end(on, claim, kind, ending, parameters, detail)
    if left is None:
        return False
    _close(database, claim, left)
    return True


def _close(database: Database, claim: Claim, left: _RemainingJobs) -> None:
    """End the batch if this was its last job.

    While a job of it is queued, that job's end looks. Should it come before this one is committed,
    neither sees the other, and reconcile ends the batch.
    """
    if left.duplicates or not left.queued:
        close_finished(database, claim.batch_name)


def _end(
    on: Connection,
    claim: Claim,
    kind: str,
    ending: ReturningUpdate[bool, bool],
    parameters: Mapping[str, Any] | None = None,
    detail: Mapping[str, Any] | None = None,
) -> _RemainingJobs | None:
    """Move a held job to a terminal state, and its duplicates with it."""
    left = _change(on, claim, kind, ending, parameters, detail)
    if left is not None and left.duplicates:
        resolve_duplicates(on, Job.duplicate_of == claim.job_id, follow=("succeeded", "failed"))
    return left


def _change(
    on: Connection,
    claim: Claim,
    kind: str,
    change: ReturningUpdate[bool, bool],
    parameters: Mapping[str, Any] | None = None,
    detail: Mapping[str, Any] | None = None,
) -> _RemainingJobs | None:
    fence = {"held_job": claim.job_id, "my_attempt": claim.attempt, "my_name": claim.worker}
    row = on.execute(change, {**fence, **(parameters or {})}).first()
    if row is None:
        return None
    mine = Change(claim.job_id, claim.attempt)
    record(on, kind, [mine], worker=claim.worker, detail=detail)
    return _RemainingJobs(*row)


def _fenced(
    values: Mapping[str, Any], *conditions: ColumnElement[bool]
) -> ReturningUpdate[bool, bool]:
    # By parameter: SQLAlchemy leaves the table's name out of what SQLite returns.
    mine, other = aliased(Job), aliased(Job)
    batch_id = select(mine.batch_id).where(mine.id == bindparam("held_job")).scalar_subquery()
    duplicates = exists().where(other.duplicate_of == bindparam("held_job"))
    queued = exists().where(other.batch_id == batch_id, other.state == "queued")
    return (
        update(Job)
        .where(
            Job.id == bindparam("held_job"),
            Job.attempt == bindparam("my_attempt"),
            Job.worker == bindparam("my_name"),
            Job.state == "running",
            *conditions,
        )
        .values(lease_until=None, **values)
        .returning(duplicates, queued)
    )


# Built once: putting such a statement together takes longer than running it.
_SUCCEED = _fenced(
    {
        "state": "succeeded",
        "finished_at": now(),
        **{part.name: bindparam(f"new_{part.name}") for part in fields(Cost)},
    }
)
_FAIL = _fenced(
    {
        "state": "failed",
        "finished_at": now(),
        "error_kind": bindparam("with_kind"),
        "error": bindparam("sentence"),
    }
)
_FAIL_AS_CAUSE = _FAIL.where(is_crash_cause())
_CANCEL = _fenced({"state": "cancelled", "finished_at": now()})
_CANCEL_ASKED = _CANCEL.where(Job.cancel_requested)
_RELEASE = _fenced(
    {
        "state": "queued",
        "queued_at": now(),
        "not_before": now() + bindparam("delay", type_=Double()),
        "given_back": Job.given_back + bindparam("kept", type_=Integer()),
    },
    ~Job.cancel_requested,
    Job.attempt - Job.given_back - bindparam("kept", type_=Integer()) < bindparam("most"),
)
_PREEMPT = _fenced(
    {
        "state": "queued",
        "queued_at": now(),
        "given_back": Job.given_back + 1,
        "preemptions": Job.preemptions + 1,
    },
    ~Job.cancel_requested,
    Job.preemptions < MAX_PREEMPTIONS,
)
_CRASH = _fenced(
    {"state": "queued", "queued_at": now(), **crash_values()},
    ~Job.cancel_requested,
    ~ended_by_crash(bindparam("most", type_=Integer())),
)
_STORE_REVIEW = insert(ReviewRow).returning(ReviewRow.id)
# Returning makes it one statement for all items instead of one for each.
_STORE_ITEMS = insert(ItemRow).returning(ItemRow.id)
