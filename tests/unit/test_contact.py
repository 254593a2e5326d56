"""A process that was cut off from the database does not judge others' leases at once."""

from __future__ import annotations

import sys
import time

import pytest

from worker.database_liveness import Contact

LEASE = 60.0


class Clock:
    """Time that a test moves; `time.monotonic()` stays behind, as in a machine that sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def gettime(self, clock: int) -> float:
        assert clock != time.CLOCK_MONOTONIC or sys.platform == "darwin", "stands still in sleep"
        return self.now

    def beat(self, touch: Contact, seconds: float) -> bool:
        """Let time pass with an answer every third of a lease; returns the last one's verdict."""
        steady = touch.answered()
        for _ in range(int(seconds / (LEASE / 3))):
            self.now += LEASE / 3
            steady = touch.answered()
        return steady


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "clock_gettime", clock.gettime)
    return clock


def test_a_process_that_has_just_started_waits_a_lease(clock: Clock) -> None:
    touch = Contact(LEASE)
    assert not clock.beat(touch, LEASE * 2 / 3)
    assert clock.beat(touch, LEASE / 3)


def test_a_silence_that_could_cost_a_lease_is_followed_by_a_lease_of_patience(clock: Clock) -> None:
    touch = Contact(LEASE)
    assert clock.beat(touch, 2 * LEASE)
    clock.now += LEASE * 2 / 3
    assert not touch.answered()
    assert not clock.beat(touch, LEASE * 2 / 3)
    assert clock.beat(touch, LEASE / 3)


def test_a_night_asleep_was_a_silence(clock: Clock) -> None:
    touch = Contact(LEASE)
    assert clock.beat(touch, 2 * LEASE)
    clock.now += 8 * 3600
    assert not touch.answered()


def test_a_silence_that_costs_nobody_a_lease_is_forgiven(clock: Clock) -> None:
    touch = Contact(LEASE)
    assert clock.beat(touch, 2 * LEASE)
    clock.now += LEASE / 2
    assert touch.answered()
