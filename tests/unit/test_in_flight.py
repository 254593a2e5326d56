"""Admission of jobs beside those that are in flight."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from db.claims import Claim, CrashFilter
from db.reviewers import ReviewerVersion
from tests.site import wait_until
from worker.in_flight import ClaimPermit, InFlight, StopReason

DEADLINE = 30.0


def claim(job_id: int, crashes: int = 0, priority: int = 1, preemptions: int = 0) -> Claim:
    return Claim(
        job_id=job_id,
        kind="review",
        about=None,
        attempt=1,
        batch_name="b",
        custom_id=str(job_id),
        sample=0,
        seed=0,
        paper_id=job_id,
        paper_sha256="s",
        title="t",
        text="b",
        reviewer=ReviewerVersion(1, "r", 1, "s", "local", "q", {}),
        allow_external=False,
        waited=0.0,
        worker="w",
        max_attempts=3,
        crashes=crashes,
        alone=False,
        priority=priority,
        preemptions=preemptions,
    )


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def taken(in_flight: InFlight, waits: threading.Event | None = None) -> CrashFilter | None:
    if waits is not None:
        waits.set()
    with in_flight.permit(lambda: 8) as permit:
        return permit.crash_filter if isinstance(permit, ClaimPermit) else None


@contextmanager
def holding(in_flight: InFlight, held: Claim) -> Iterator[None]:
    in_flight.hold([held])
    yield
    in_flight.leave(held)


def test_worker_with_free_slots_takes_any_admissible_job() -> None:
    in_flight = InFlight()
    assert taken(in_flight) == CrashFilter(0, 1 << 30, 2)
    with holding(in_flight, claim(1)), holding(in_flight, claim(2)):
        assert taken(in_flight) == CrashFilter(0, 0, 2)
    with holding(in_flight, claim(1, crashes=1)):
        assert taken(in_flight) == CrashFilter(1, 1, 2)


@pytest.mark.parametrize("crashed", [False, True])
def test_next_job_waits_while_an_isolated_or_crashed_paper_runs(
    pool: ThreadPoolExecutor, crashed: bool
) -> None:
    in_flight, waits = InFlight(), threading.Event()
    alone = claim(1, crashes=0 if crashed else 2)
    with holding(in_flight, alone):
        if crashed:
            in_flight.note_crash(alone)
        crash_filter = pool.submit(taken, in_flight, waits)
        waits.wait(DEADLINE)
        assert not crash_filter.done()
    assert crash_filter.result(DEADLINE) == CrashFilter(0, 1 << 30, 2)


@pytest.mark.parametrize("end", ["pause", "drain"])
def test_thread_waiting_for_a_slot_returns_when_the_worker_drains(
    pool: ThreadPoolExecutor, end: str
) -> None:
    in_flight, waits = InFlight(), threading.Event()
    with holding(in_flight, claim(1, crashes=2)):
        crash_filter = pool.submit(taken, in_flight, waits)
        waits.wait(DEADLINE)
        if end == "pause":
            in_flight.pause(True)
        else:
            in_flight.drain(0.0)
        assert crash_filter.result(DEADLINE) is None
        in_flight.wait_for_crashed_papers()


def test_a_paper_that_is_claimed_while_the_drain_begins_may_end_in_time(
    pool: ThreadPoolExecutor,
) -> None:
    in_flight, late = InFlight(), claim(1)
    with in_flight.permit(lambda: 8) as permit:
        drained = pool.submit(in_flight.drain, DEADLINE)
        wait_until(lambda: in_flight.closed)
        assert permit is not None
        held = ExitStack()
        held.enter_context(holding(in_flight, late))
    assert taken(in_flight) is None
    assert in_flight.why_stopped(late) is None
    assert not drained.done()
    held.close()
    drained.result(DEADLINE)


def test_a_paper_that_is_claimed_after_the_drain_is_stopped_at_once() -> None:
    in_flight, late = InFlight(), claim(1)
    with in_flight.permit(lambda: 8):
        in_flight.drain(0.0)
        with holding(in_flight, late):
            assert in_flight.why_stopped(late) is StopReason.DRAINING


def test_one_thread_claims_for_all_waiting_threads(pool: ThreadPoolExecutor) -> None:
    in_flight, mine, other = InFlight(), claim(1), claim(2)

    def next_turn() -> ClaimPermit | Claim | None:
        with in_flight.permit(lambda: 8) as permit:
            return permit

    with in_flight.permit(lambda: 8) as permit:
        assert isinstance(permit, ClaimPermit)
        assert permit.others == 0
        waiting = pool.submit(next_turn)
        wait_until(lambda: in_flight._waiting == 1)
        in_flight.hold([mine, other])
        # The job claimed for it is not lost when the worker drains meanwhile
        in_flight.pause(True)
    assert waiting.result(DEADLINE) is other
    assert in_flight.attempts() == {(1, 1), (2, 1)}
    assert taken(in_flight) is None


def test_no_more_jobs_are_claimed_than_there_are_free_slots() -> None:
    in_flight = InFlight()
    in_flight._waiting = 9
    with holding(in_flight, claim(1)), in_flight.permit(lambda: 4) as permit:
        assert isinstance(permit, ClaimPermit)
        assert permit.others == 2


def test_two_attempts_of_one_paper_are_tracked_separately() -> None:
    # Given a paper that was queued again and claimed here before its old thread has noticed
    in_flight, old = InFlight(), claim(1)
    new = replace(old, attempt=2)
    in_flight.hold([old])
    in_flight.hold([new])
    assert in_flight.attempts() == {(1, 1), (1, 2)}
    # When the old one is lost, only it is stopped
    in_flight.stop([old.key], StopReason.LOST)
    assert in_flight.why_stopped(old) is StopReason.LOST
    assert in_flight.why_stopped(new) is None
    # Then the new one is kept and renewed after the old one leaves
    in_flight.leave(old)
    assert in_flight.attempts() == {(1, 2)}


def preemptible(in_flight: InFlight, slots: int) -> Claim | None:
    with in_flight.preemption(slots) as chosen:
        return chosen


def test_the_youngest_job_of_the_lowest_priority_is_preempted() -> None:
    in_flight = InFlight()
    jobs = [
        claim(1, priority=2),
        claim(2, priority=2),
        claim(3),
        claim(4, priority=2, preemptions=2),
    ]
    for job in jobs:
        assert preemptible(in_flight, 4) is None  # a slot is free
        in_flight.hold([job])
    assert preemptible(in_flight, 4) is jobs[1]
    assert preemptible(in_flight, 5) is None
    in_flight.leave(jobs[1])
    in_flight.leave(jobs[0])
    assert preemptible(in_flight, 2) is jobs[2]
    in_flight.leave(jobs[2])
    assert preemptible(in_flight, 1) is None  # it was preempted too often


def test_one_job_is_preempted_at_a_time() -> None:
    in_flight, urgent = InFlight(), claim(3, priority=0)
    running = [claim(1), claim(2)]
    for job in running:
        in_flight.hold([job])
    assert in_flight.preempt(running[1], urgent)
    assert in_flight.why_stopped(running[1]) is StopReason.PREEMPTED
    assert in_flight.preempted_by(running[1]) is urgent
    # While the urgent one has no slot, and while the preempted one is still in the engine
    assert preemptible(in_flight, 2) is None
    with in_flight.permit(lambda: 2) as permit:
        assert permit is urgent
    assert preemptible(in_flight, 2) is None
    in_flight.leave(running[1])
    assert preemptible(in_flight, 2) is running[0]


def test_no_job_is_preempted_when_nothing_may_be_claimed() -> None:
    in_flight, job = InFlight(), claim(1)
    in_flight.hold([job])
    in_flight.pause(True)
    assert preemptible(in_flight, 1) is None
    in_flight.pause(False)
    with in_flight.permit(lambda: 8):
        assert preemptible(in_flight, 1) is None  # a thread is claiming
    with holding(in_flight, claim(2, crashes=1)):
        assert preemptible(in_flight, 2) is None
    assert preemptible(in_flight, 1) is job


def test_a_job_that_has_ended_is_not_preempted() -> None:
    in_flight, job = InFlight(), claim(1)
    in_flight.hold([job])
    in_flight.leave(job)
    assert not in_flight.preempt(job, claim(2, priority=0))
    assert not in_flight.attempts()
    assert not in_flight.has_claimed_for_others
