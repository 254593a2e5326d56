"""What a crash counts against a job: the rule, for all statements that apply it.

A paper that breaks an engine or a worker takes all that is in it along. Only one that was alone
there (`job.alone`) is blamed; for the others the attempt does not count, and `job.crashes` makes
their company smaller at the next try (`db.claims.Room`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, case

from db.schema import Job

#: A paper that was alone in the engine when it broke down this often is taken for the cause.
MOST_CRASHES_ALONE = 2
#: `job.error_kind` of such a paper, and what its error says after its custom_id.
CRASH = "crash"
CAUSE = (
    f" was alone in the engine {MOST_CRASHES_ALONE} times when the engine broke down or its worker "
    "died: it is the likely cause and is not tried again."
)


def crash_values() -> dict[str, Any]:
    """What a job that goes back to the queue after a crash gets."""
    not_counted = case((Job.alone, 0), else_=1)
    return {"crashes": Job.crashes + 1, "given_back": Job.given_back + not_counted}


def most_alone(max_attempts: int) -> int:
    """How many counted attempts a job may have that is alone in a crash."""
    return min(max_attempts, MOST_CRASHES_ALONE)


def convicted(most: int | ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a running job whose engine is gone has to fail; `most` is `most_alone`'s."""
    return and_(Job.alone, Job.attempt - Job.given_back >= most)
