"""The jobs that a worker process holds.

Task threads add their claim and wait for its result. The keeper thread reads what is held, and
stops jobs that were cancelled, lost to another worker, or must be requeued because the worker
stops.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum

from db.claims import MAX_PREEMPTIONS, Attempt, Claim, CrashFilter
from models.text.generation import Engine, Generation, GenerationRequest
from worker.crash_isolation import CrashIsolation

#: Weight of the newest job in the average of their times: about the last ten count.
_NEWEST_WEIGHT = 0.2


class StopReason(Enum):
    """Why a job was stopped."""

    CANCELLED = "cancelled"
    LOST = "lost"
    DRAINING = "draining"
    PREEMPTED = "preempted"


@dataclass
class _Held:
    claim: Claim
    #: When it was claimed, on the monotonic clock.
    since: float = field(default_factory=time.monotonic)
    engine: Engine | None = None
    request_id: str | None = None
    why: StopReason | None = None
    #: The engine crashed with it, and it is about to be requeued.
    crashed: bool = False
    #: The job that it was stopped for.
    preempted_by: Claim | None = None


@dataclass(frozen=True)
class ClaimPermit:
    """Permission for one thread to claim jobs."""

    crash_filter: CrashFilter
    #: Waiting threads for which there are slots.
    others: int


@dataclass
class InFlight:
    """Thread-safe register of claims.

    Claims are identified by attempt, not by job: a job can be held twice, if it was requeued and
    claimed here again before the thread of the earlier attempt noticed.
    """

    _held: dict[Attempt, _Held] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _draining: bool = False
    #: The process is ending: do not wait for anything.
    ending: bool = False
    _paused: bool = False
    #: Held by the thread that is claiming, so that it knows what is held.
    _claim_lock: threading.Lock = field(default_factory=threading.Lock)
    #: Number of waiting threads, and held jobs that were claimed for them.
    _waiting: int = 0
    _claimed_for_waiting: deque[Claim] = field(default_factory=deque)
    #: Jobs claimed since the start.
    taken: int = 0
    #: Moving average of the seconds that a job with a result was held; 0 before the first.
    typical_seconds: float = 0.0

    @property
    def closed(self) -> bool:
        """True if nothing new may be claimed."""
        return self._draining or self._paused

    @property
    def paused(self) -> bool:
        """True while claiming is paused."""
        return self._paused

    def pause(self, paused: bool) -> None:
        """Pause or resume claiming, as an operator requested."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    @contextmanager
    def permit(self, slots: Callable[[], int]) -> Iterator[ClaimPermit | Claim | None]:
        """Wait until a job may be claimed, and keep other threads from claiming meanwhile.

        Yields the job that another thread has claimed for this one, if there is one, and None if
        nothing new may be claimed any more.
        """
        with self._changed:
            self._waiting += 1
        with self._claim_lock:
            yield self._next_permit(slots)

    def _next_permit(self, slots: Callable[[], int]) -> ClaimPermit | Claim | None:
        with self._changed:
            self._waiting -= 1
            if self._claimed_for_waiting:
                return self._claimed_for_waiting.popleft()
            self._changed.wait_for(lambda: self.closed or self._crash_filter(slots()) is not None)
            crash_filter = None if self.closed else self._crash_filter(slots())
            if crash_filter is None:
                return None
            return ClaimPermit(
                crash_filter, others=min(self._waiting, slots() - len(self._held) - 1)
            )

    def wait_for_crashed_papers(self) -> None:
        """Wait until no held job was in a crash, or nothing new may be claimed."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or not any(self._crashes()))

    def note_crash(self, claim: Claim) -> None:
        """Claim nothing until this job has left: it and those that crashed with it come first."""
        with self._changed:
            self._held[claim.key].crashed = True

    def _crash_filter(self, slots: int) -> CrashFilter | None:
        if any(held.crashed for held in self._held.values()):
            return None
        return CrashIsolation(slots).crash_filter(self._crashes())

    def _crashes(self) -> list[int]:
        return [held.claim.crashes for held in self._held.values()]

    def hold(self, claims: Sequence[Claim]) -> None:
        """Register claimed jobs: the first for the calling thread, the others for waiting threads.

        Jobs that were claimed while the process was ending are stopped at once.
        """
        with self._changed:
            self.taken += len(claims)
            for claim in claims:
                why = StopReason.DRAINING if self.ending else None
                self._held[claim.key] = _Held(claim, why=why)
            self._claimed_for_waiting.extend(claims[1:])

    @property
    def has_claimed_for_others(self) -> bool:
        """True while a held job waits for a thread to take it."""
        return bool(self._claimed_for_waiting)

    @contextmanager
    def preemption(self, slots: int) -> Iterator[Claim | None]:
        """Choose the job that a more urgent one may preempt: the youngest of the lowest priority.

        Other threads claim nothing meanwhile. Yields None if a slot is free, if nothing may be
        claimed, while the last preemption is under way, and while papers that were in a crash are
        tried again, since the urgent one would join them.
        """
        if not self._claim_lock.acquire(blocking=False):
            yield None  # a thread that claims has a free slot
            return
        try:
            yield self._preemptible(slots)
        finally:
            self._claim_lock.release()

    def _preemptible(self, slots: int) -> Claim | None:
        with self._changed:
            held = self._held.values()
            busy = self._claimed_for_waiting or any(each.preempted_by for each in held)
            if self.closed or busy or len(held) < slots or any(self._crashes()):
                return None
            running = [each for each in held if each.why is None]
            eligible = [each for each in running if each.claim.preemptions < MAX_PREEMPTIONS]
            youngest = max(eligible, key=lambda e: (e.claim.priority, e.since), default=None)
            return None if youngest is None else youngest.claim

    def preempt(self, claim: Claim, urgent: Claim) -> bool:
        """Stop a job, and hold an urgent one for the thread that becomes free first.

        False, and the urgent one is not held, if the job has left: its thread may claim no more.
        """
        with self._changed:
            if claim.key not in self._held:
                return False
            self._held[claim.key].preempted_by = urgent
            self._held[urgent.key] = _Held(urgent)
            self._claimed_for_waiting.append(urgent)
            self.taken += 1
        self.stop([claim.key], StopReason.PREEMPTED)
        return True

    def preempted_by(self, claim: Claim) -> Claim | None:
        """The job that this one was stopped for."""
        return self._held[claim.key].preempted_by

    def leave(self, claim: Claim) -> None:
        """Remove a claim: its job has ended, or belongs to another worker."""
        with self._changed:
            del self._held[claim.key]
            self._changed.notify_all()

    def wait(self, claim: Claim, engine: Engine, request: GenerationRequest) -> Generation:
        """Submit a request and wait for it. Raises what the engine's future raises."""
        held = self._held[claim.key]
        if held.why is not None:
            raise CancelledError
        future = engine.submit(replace(request, priority=claim.priority))
        with self._changed:
            held.engine, held.request_id = engine, request.id
            # A stop between the check and the submit found no request to cancel.
            stopped = held.why is not None
        if stopped:
            engine.cancel(request.id)
        return future.result()

    def attempts(self) -> Set[Attempt]:
        """All held attempts, as `claims.renew` expects them."""
        with self._changed:
            return frozenset(self._held)

    def stop(self, attempts: Iterable[Attempt], why: StopReason) -> None:
        """Cancel jobs in the engine; the first reason given is kept."""
        with self._changed:
            chosen = [self._held[attempt] for attempt in attempts if attempt in self._held]
            for held in chosen:
                held.why = held.why or why
        for held in chosen:
            if held.engine is not None and held.request_id is not None:
                held.engine.cancel(held.request_id)

    def why_stopped(self, claim: Claim) -> StopReason | None:
        """Why this job was stopped; None if this process did not stop it."""
        return self._held[claim.key].why

    def since(self, claim: Claim) -> float:
        """When this job was claimed, on the monotonic clock."""
        return self._held[claim.key].since

    def note_result(self, claim: Claim) -> None:
        """Include the time of a job that has a result in the average."""
        with self._changed:
            seconds = time.monotonic() - self._held[claim.key].since
            weight = _NEWEST_WEIGHT if self.typical_seconds else 1.0
            self.typical_seconds += weight * (seconds - self.typical_seconds)

    def drain(self, seconds: float) -> None:
        """Claim nothing more; after `seconds`, requeue what is still running."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._draining = True
            self._changed.notify_all()
        # A job that is being claimed now may finish in time, like the others.
        if self._claim_lock.acquire(timeout=seconds):
            self._claim_lock.release()
        with self._changed:
            self._changed.wait_for(lambda: not self._held, timeout=deadline - time.monotonic())
            self.ending = True
        self.give_back()

    def give_back(self) -> None:
        """Stop all running jobs; they return to the queue without using up an attempt."""
        with self._changed:
            running = tuple(self._held)
        self.stop(running, StopReason.DRAINING)
