"""Which waiting job may preempt one that runs, and how a preempted job returns to the queue."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update

from db import batch_control, claims, completion, job_events, reconcile
from db.claims import MAX_PREEMPTIONS, Claim
from db.column_types import now
from db.schema import Job
from db.session import Database
from dispatch.kinds import KINDS
from tests.integration.db.content import (
    QUEUE,
    a_review,
    claim_one,
    claim_several,
    paper,
    states,
    submit,
)

HIGH, NORMAL, LOW = 0, 1, 2


def claim_urgent(database: Database, below: int, **options: Any) -> Claim | None:
    parameters: dict[str, Any] = {
        "within_seconds": 0.0,
        "queues": [QUEUE],
        "kinds": KINDS,
        "worker": "w1",
        "lease_seconds": 60.0,
        "max_attempts": 3,
        **options,
    }
    return claims.claim_urgent(database, below=below, **parameters)


@pytest.mark.parametrize("waiting", [HIGH, NORMAL, LOW])
@pytest.mark.parametrize("running", [HIGH, NORMAL, LOW])
def test_only_a_job_of_high_priority_preempts_one_of_lower_priority(
    running: int, waiting: int, database: Database
) -> None:
    submit(database, "b", paper("a"), priority=waiting)
    urgent = claim_urgent(database, running)
    assert (urgent is not None) == (waiting == HIGH and running > HIGH)
    assert states(database, "b") == {"a": "running" if urgent else "queued"}


@pytest.mark.parametrize(("seconds_left", "preempts"), [(30.0, True), (90.0, False)])
@pytest.mark.parametrize("running", [NORMAL, LOW])
def test_a_job_whose_deadline_would_pass_preempts_one_of_lower_priority(
    running: int, seconds_left: float, preempts: bool, database: Database
) -> None:
    submit(database, "b", paper("a"), priority=NORMAL, deadline_seconds=seconds_left)
    urgent = claim_urgent(database, running, within_seconds=60.0)
    assert (urgent is not None) == (preempts and running == LOW)


def test_the_best_urgent_job_of_all_queues_is_claimed_once(database: Database) -> None:
    submit(database, "normal", paper("n"), priority=NORMAL)
    submit(database, "high", paper("first"), paper("second"), priority=HIGH)
    queues = ["reviews.other", QUEUE]
    taken = [claim_urgent(database, LOW, queues=queues, worker=f"w{n}") for n in range(3)]
    assert [urgent and urgent.custom_id for urgent in taken] == ["first", "second", None]
    assert claim_one(database).custom_id == "n"


def test_a_job_that_was_in_a_crash_preempts_none(database: Database) -> None:
    submit(database, "b", paper("a"), priority=HIGH)
    completion.crashed(database, claim_one(database), reason="a step failed")
    assert claim_urgent(database, LOW) is None


def test_a_preempted_job_returns_to_the_queue_without_using_up_an_attempt(
    database: Database,
) -> None:
    submit(database, "b", paper("a"), priority=LOW)
    submit(database, "urgent", paper("u"), priority=HIGH)
    urgent = claim_one(database)
    for number in range(1, MAX_PREEMPTIONS + 1):
        held = claim_one(database)
        assert (held.custom_id, held.priority, held.preemptions) == ("a", LOW, number - 1)
        assert completion.preempted(database, held, by=urgent)
        with database.read() as on:
            row = on.execute(select(Job.attempt - Job.given_back, Job.preemptions)).all()
        assert (0, number) in row
        assert job_events.events(database, held.job_id)[-1].detail == {
            "by": urgent.job_id,
            "custom_id": "u",
            "batch": "urgent",
        }
        # And the worker that held it writes nothing any more
        assert not completion.commit_review(database, held, a_review())
    # Then it is not preempted again, and keeps running
    held = claim_one(database)
    assert not completion.preempted(database, held, by=urgent)
    assert completion.commit_review(database, held, a_review())


def test_a_job_that_is_lost_or_cancelled_is_not_preempted(database: Database) -> None:
    submit(database, "b", paper("a"), paper("b"), priority=LOW)
    submit(database, "urgent", paper("u"), priority=HIGH)
    urgent, lost, cancelled = claim_several(database, 3)
    with database.write() as on:
        on.execute(update(Job).where(Job.id == lost.job_id).values(lease_until=now() - 1))
    reconcile.reconcile(database, max_attempts=3)
    assert not completion.preempted(database, lost, by=urgent)
    batch_control.cancel(database, "b", ["b"])
    assert completion.preempted(database, cancelled, by=urgent)
    assert states(database, "b") == {"a": "queued", "b": "cancelled"}
