"""When a worker that ends by itself has had nothing to do for long enough."""

from __future__ import annotations

import pytest

from db.session import Database
from tests.integration.db.content import QUEUE, claim_one, paper, submit
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


def test_it_is_over_when_no_work_was_seen_for_the_whole_time(
    database: Database, clock: FakeClock
) -> None:
    watch = IdleWatch(database, QUEUE, InFlight(), LIMIT)
    assert not watch.over()
    clock.now += LIMIT - 1
    assert not watch.over()
    clock.now += 1
    assert watch.over()


def test_a_paper_that_is_just_being_claimed_keeps_a_worker_whose_looks_are_far_apart(
    database: Database, clock: FakeClock
) -> None:
    # Given a worker that last looked, and saw work, longer ago than the limit
    submit(database, "b", paper("a"), paper("b"))
    in_flight = InFlight()
    watch = IdleWatch(database, QUEUE, in_flight, LIMIT)
    assert not watch.over()
    clock.now += 5 * LIMIT
    # When all papers are claimed, but not yet in its register
    claims = [claim_one(database), claim_one(database)]
    # Then one look that finds nothing does not end it, nor do later ones while it reviews
    assert not watch.over()
    in_flight.hold(claims)
    clock.now += 5 * LIMIT
    assert not watch.over()
    # And what it did between two looks counts as work
    for claim in claims:
        in_flight.leave(claim)
    assert not watch.over()
    clock.now += LIMIT
    assert watch.over()


def test_time_in_which_nobody_could_look_does_not_count(
    database: Database, clock: FakeClock
) -> None:
    watch = IdleWatch(database, QUEUE, InFlight(), LIMIT)
    assert not watch.over()
    watch.reset()
    clock.now += 5 * LIMIT
    assert not watch.over()
    clock.now += LIMIT
    assert watch.over()
