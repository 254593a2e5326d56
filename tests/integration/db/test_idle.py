"""When a worker with an empty queue may exit."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from db import batch_control, completion, reconcile
from db.column_types import now
from db.schema import Job
from db.session import Database
from tests.integration.db.content import QUEUE, a_review, a_reviewer, claim_one, paper, submit
from worker import idle
from worker.idle import IdleWatch
from worker.in_flight import InFlight

LIMIT = 10.0


class FakeClock:
    """A clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(idle, "time", clock)
    return clock


def test_worker_is_idle_after_the_whole_limit_without_work(
    database: Database, clock: FakeClock
) -> None:
    watch = IdleWatch(database, [QUEUE], InFlight(), LIMIT)
    assert not watch.over()
    clock.now += LIMIT - 1
    assert not watch.over()
    clock.now += 1
    assert watch.over()


def looks(watch: IdleWatch, clock: FakeClock, times: int = 3) -> list[bool]:
    """Results of several checks, each one limit after the previous one."""
    said = []
    for _ in range(times):
        said.append(watch.over())
        clock.now += LIMIT
    return said


def test_committed_but_unregistered_claim_prevents_idle_exit(
    database: Database, clock: FakeClock
) -> None:
    submit(database, "b", paper("a"), paper("b"))
    in_flight = InFlight()
    watch = IdleWatch(database, [QUEUE], in_flight, LIMIT)
    # When all papers are claimed, and the claims are registered much later
    claims = [claim_one(database), claim_one(database)]
    assert looks(watch, clock) == [False] * 3
    in_flight.hold(claims)
    assert looks(watch, clock) == [False] * 3
    # And when they have ended, what was taken between two checks counts as work
    for claim in claims:
        in_flight.leave(claim)
        assert completion.commit_review(database, claim, a_review())
    assert looks(watch, clock) == [False, True, True]


def test_job_of_another_worker_prevents_idle_exit_until_it_ends(
    database: Database, clock: FakeClock
) -> None:
    submit(database, "b", paper("a"))
    watch = IdleWatch(database, [QUEUE], InFlight(), LIMIT)
    held = claim_one(database, "other")
    assert looks(watch, clock) == [False] * 3
    # The job may return to the queue, at once or later
    completion.release(database, held, reason="draining", delay_seconds=3600, keep_attempt=True)
    assert looks(watch, clock) == [False] * 3
    with database.write() as on:
        on.execute(update(Job).values(not_before=0.0))
    assert completion.commit_review(database, claim_one(database), a_review())
    assert looks(watch, clock) == [False, True, True]


def test_job_of_a_dead_worker_prevents_idle_exit(database: Database, clock: FakeClock) -> None:
    submit(database, "b", paper("a"))
    claim_one(database, "other")
    watch = IdleWatch(database, [QUEUE], InFlight(), LIMIT)
    with database.write() as on:
        on.execute(update(Job).values(lease_until=now() - 1))
    assert looks(watch, clock) == [False] * 3
    reconcile.reconcile(database, max_attempts=3)
    assert looks(watch, clock) == [False] * 3
    assert completion.commit_review(database, claim_one(database), a_review())
    assert looks(watch, clock) == [False, True, True]


def test_unclaimable_jobs_do_not_prevent_idle_exit(database: Database, clock: FakeClock) -> None:
    # Given a queue's only jobs in a paused batch, past their deadline, or on another queue
    submit(database, "paused", paper("a"))
    batch_control.pause(database, "paused")
    submit(database, "late", paper("b"), deadline_seconds=0.0)
    submit(database, "other", paper("c"), reviewer=a_reviewer(database, "other-7", "reviews.other"))
    watch = IdleWatch(database, [QUEUE], InFlight(), LIMIT)
    assert looks(watch, clock) == [False, True, True]


def test_running_job_of_a_paused_batch_prevents_idle_exit(
    database: Database, clock: FakeClock
) -> None:
    submit(database, "b", paper("a"))
    held = claim_one(database)
    batch_control.pause(database, "b")
    watch = IdleWatch(database, [QUEUE], InFlight(), LIMIT)
    assert looks(watch, clock) == [False] * 3
    assert completion.release(database, held, reason="draining", keep_attempt=True)
    assert looks(watch, clock) == [False, True, True]


def test_time_before_a_reset_does_not_count_as_idle(database: Database, clock: FakeClock) -> None:
    watch = IdleWatch(database, [QUEUE], InFlight(), LIMIT)
    assert not watch.over()
    watch.reset()
    clock.now += 5 * LIMIT
    assert not watch.over()
    clock.now += LIMIT
    assert watch.over()
