"""A process that lost the database does not expire other workers' leases at once."""

from __future__ import annotations

import sys
import time

import pytest

from worker.database_liveness import DatabaseLiveness

LEASE = 60.0


class FakeClock:
    """A clock that a test advances; `time.monotonic()` stands still, as on a suspended machine."""

    def __init__(self) -> None:
        self.now = 1000.0

    def gettime(self, clock: int) -> float:
        assert clock != time.CLOCK_MONOTONIC or sys.platform == "darwin", "stands still in sleep"
        return self.now

    def beat(self, touch: DatabaseLiveness, seconds: float) -> bool:
        """Advance the clock with an answer every third of a lease; returns the last result."""
        steady = touch.record_answer()
        for _ in range(int(seconds / (LEASE / 3))):
            self.now += LEASE / 3
            steady = touch.record_answer()
        return steady


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(time, "clock_gettime", clock.gettime)
    return clock


def test_a_process_that_has_just_started_waits_a_lease(clock: FakeClock) -> None:
    touch = DatabaseLiveness(LEASE)
    assert not clock.beat(touch, LEASE * 2 / 3)
    assert clock.beat(touch, LEASE / 3)


def test_long_outage_delays_expiry_by_one_lease(
    clock: FakeClock,
) -> None:
    touch = DatabaseLiveness(LEASE)
    assert clock.beat(touch, 2 * LEASE)
    clock.now += LEASE * 2 / 3
    assert not touch.record_answer()
    assert not clock.beat(touch, LEASE * 2 / 3)
    assert clock.beat(touch, LEASE / 3)


def test_suspended_machine_counts_as_an_outage(clock: FakeClock) -> None:
    touch = DatabaseLiveness(LEASE)
    assert clock.beat(touch, 2 * LEASE)
    clock.now += 8 * 3600
    assert not touch.record_answer()


def test_short_outage_does_not_delay_expiry(clock: FakeClock) -> None:
    touch = DatabaseLiveness(LEASE)
    assert clock.beat(touch, 2 * LEASE)
    clock.now += LEASE / 2
    assert touch.record_answer()
