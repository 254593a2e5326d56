"""What a crash counts against a job: the rule, for all statements that apply it.

A paper that breaks an engine or a worker takes all that is in it along. Only one that was alone
there (`job.alone`) is blamed; for the others the attempt does not count, and `job.crashes` makes
their company smaller at the next try (`db.claims.CrashFilter`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, case, or_

from db.schema import Job

#: A paper that was alone in the engine when it broke down this often is taken for the cause.
MAX_CRASHES_ALONE = 2
#: `job.error_kind` of such a paper, and what its error says after its custom_id.
CRASH = "crash"
CAUSE_SENTENCE = (
    f" was alone in the engine {MAX_CRASHES_ALONE} times when the engine broke down or its worker "
    "died: it is the likely cause and is not tried again."
)


def crash_values() -> dict[str, Any]:
    """What a job that goes back to the queue after a crash gets."""
    return {
        "crashes": Job.crashes + 1,
        "crashes_alone": Job.crashes_alone + case((Job.alone, 1), else_=0),
        "given_back": Job.given_back + case((Job.alone, 0), else_=1),
    }


def is_crash_cause() -> ColumnElement[bool]:
    """Whether a running job whose engine is gone is taken for the cause."""
    return and_(Job.alone, Job.crashes_alone + 1 >= MAX_CRASHES_ALONE)


def ended_by_crash(max_attempts: int | ColumnElement[int]) -> ColumnElement[bool]:
    """Whether such a job has to fail: it is the cause, or this was the last of its attempts."""
    used_up = and_(Job.alone, Job.attempt - Job.given_back >= max_attempts)
    return or_(is_crash_cause(), used_up)
