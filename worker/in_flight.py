"""The papers that a worker process has in its engine now.

Task threads put their claim in and wait; the keeper thread asks what is held, and stops papers that
were cancelled, lost to another worker, or must be given back because the worker stops.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from db.claims import Attempt, Claim, CrashFilter
from models.text.generation import Engine, Generation, GenerationRequest
from worker.crash_isolation import CrashIsolation


class StopReason(Enum):
    """Why a paper was taken out of the engine."""

    CANCELLED = "cancelled"
    LOST = "lost"
    DRAINING = "draining"


@dataclass
class _Held:
    claim: Claim
    #: When it was taken, on the monotonic clock.
    since: float = field(default_factory=time.monotonic)
    engine: Engine | None = None
    request_id: str | None = None
    why: StopReason | None = None
    #: The engine broke down with it, and it is about to go back to the queue.
    crashed: bool = False


@dataclass(frozen=True)
class ClaimPermit:
    """Leave for the one thread whose turn it is to take papers."""

    crash_filter: CrashFilter
    #: Threads that wait for their turn, as far as there are slots for them.
    others: int


@dataclass
class InFlight:
    """Thread-safe register of claims.

    By attempt, not by job: a job may be held twice, when it was queued again and claimed here
    before the thread of the attempt before has noticed.
    """

    _held: dict[Attempt, _Held] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _draining: bool = False
    #: The process ends: nothing may be waited for any more.
    ending: bool = False
    _paused: bool = False
    #: Held by the one thread that is about to take papers, so that it knows what is held.
    _claim_lock: threading.Lock = field(default_factory=threading.Lock)
    #: Threads that wait for their turn, and held papers that were taken for them meanwhile.
    _waiting: int = 0
    _claimed_for_waiting: deque[Claim] = field(default_factory=deque)
    #: Papers taken since the start.
    taken: int = 0

    @property
    def closed(self) -> bool:
        """True when nothing new may be claimed."""
        return self._draining or self._paused

    @property
    def paused(self) -> bool:
        """True while nothing new is taken for now."""
        return self._paused

    def pause(self, paused: bool) -> None:
        """Take nothing new for now, or take papers again: an operator asked for it."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    @contextmanager
    def permit(self, slots: Callable[[], int]) -> Iterator[ClaimPermit | Claim | None]:
        """Wait until a paper may be taken, and keep other threads from it while the block runs.

        Yields the paper that another thread has taken for this one, if there is one, and None when
        nothing new may be taken any more.
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
        """Wait until nothing is held that was in a crash, or nothing new may be taken."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or not any(self._crashes()))

    def note_crash(self, claim: Claim) -> None:
        """Take nothing until this paper has left: it and its company come first then."""
        with self._changed:
            self._held[claim.key].crashed = True

    def _crash_filter(self, slots: int) -> CrashFilter | None:
        if any(held.crashed for held in self._held.values()):
            return None
        return CrashIsolation(slots).crash_filter(self._crashes())

    def _crashes(self) -> list[int]:
        return [held.claim.crashes for held in self._held.values()]

    def hold(self, claims: Sequence[Claim]) -> None:
        """Register what was taken in a turn: the first for its thread, the rest for the waiting.

        What was taken while the process came to its end is stopped at once.
        """
        with self._changed:
            self.taken += len(claims)
            for claim in claims:
                why = StopReason.DRAINING if self.ending else None
                self._held[claim.key] = _Held(claim, why=why)
            self._claimed_for_waiting.extend(claims[1:])

    def leave(self, claim: Claim) -> None:
        """Forget a claim: its job has ended, or is another worker's."""
        with self._changed:
            del self._held[claim.key]
            self._changed.notify_all()

    def wait(self, claim: Claim, engine: Engine, request: GenerationRequest) -> Generation:
        """Submit a request and wait for it. Raises what the engine's future raises."""
        held = self._held[claim.key]
        if held.why is not None:
            raise CancelledError
        future = engine.submit(request)
        with self._changed:
            held.engine, held.request_id = engine, request.id
            # A stop that came meanwhile found no request to cancel.
            stopped = held.why is not None
        if stopped:
            engine.cancel(request.id)
        return future.result()

    def attempts(self) -> Set[Attempt]:
        """Everything held, as `jobs.renew` wants it."""
        with self._changed:
            return frozenset(self._held)

    def stop(self, attempts: Iterable[Attempt], why: StopReason) -> None:
        """Cancel papers in the engine; the first reason given stays."""
        with self._changed:
            chosen = [self._held[attempt] for attempt in attempts if attempt in self._held]
            for held in chosen:
                held.why = held.why or why
        for held in chosen:
            if held.engine is not None and held.request_id is not None:
                held.engine.cancel(held.request_id)

    def why_stopped(self, claim: Claim) -> StopReason | None:
        """Why this paper was stopped; None when nobody here asked for it."""
        return self._held[claim.key].why

    def since(self, claim: Claim) -> float:
        """When this paper was taken, on the monotonic clock."""
        return self._held[claim.key].since

    def drain(self, seconds: float) -> None:
        """Claim nothing more; after `seconds` give back what is still running."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._draining = True
            self._changed.notify_all()
        # A paper that is being claimed at this moment may end in time, as the others may.
        if self._claim_lock.acquire(timeout=seconds):
            self._claim_lock.release()
        with self._changed:
            self._changed.wait_for(lambda: not self._held, timeout=deadline - time.monotonic())
            self.ending = True
        self.give_back()

    def give_back(self) -> None:
        """Stop everything that runs; the jobs return to the queue with their attempts."""
        with self._changed:
            running = tuple(self._held)
        self.stop(running, StopReason.DRAINING)
