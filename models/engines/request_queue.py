"""Takes requests in for an engine and ends their futures."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Event

from errors import NeverStarted, RequestRefused
from models.text.generation import Generation, GenerationRequest
from models.text.prompt import Prompt


@dataclass(frozen=True, eq=False)
class QueuedRequest:
    """A request that was admitted, from its submission to its future's end."""

    request: GenerationRequest
    prompt: Prompt
    future: Future[Generation] = field(default_factory=Future)
    #: Set from any thread when the answer is no longer wanted.
    stopped: Event = field(default_factory=Event)
    submitted_at: float = field(default_factory=time.monotonic)

    @property
    def n_tokens(self) -> int:
        """Tokens that prompt and answer take at most."""
        return self.prompt.n_prompt_tokens + self.request.max_new_tokens


class RequestQueue:
    """Between the threads that submit and the one that owns the model."""

    def __init__(self, admit: Callable[[GenerationRequest], Prompt]) -> None:
        """`admit` gives a request's prompt, or raises RequestRefused."""
        self._admit = admit
        self._changed = Condition()
        self._waiting: deque[QueuedRequest] = deque()
        #: Waiting or taken, not yet ended.
        self._unfinished: set[QueuedRequest] = set()
        #: When there was last nothing to do.
        self.busy_since = time.monotonic()
        self._shutdown_reason: str | None = None

    @property
    def shutdown_reason(self) -> str | None:
        """Why nothing more can be generated; None while all is well."""
        return self._shutdown_reason

    @property
    def busy(self) -> bool:
        """Is any request waiting or in the works?"""
        return bool(self._unfinished)

    def submit(self, request: GenerationRequest) -> Future[Generation]:
        """Queue a request; returns at once."""
        try:
            work = QueuedRequest(request, self._admit(request))
        except RequestRefused as refusal:
            return _failed(refusal)
        with self._changed:
            if self._shutdown_reason is not None:
                return _failed(NeverStarted(self._shutdown_reason))
            if not self._unfinished:
                self.busy_since = time.monotonic()
            self._unfinished.add(work)
            self._waiting.append(work)
            self._changed.notify()
        return work.future

    def cancel(self, request_id: str) -> None:
        """End a request that waits, and mark one that is in the works; unknown ids are ignored."""
        with self._changed:
            requests = [work for work in self._unfinished if work.request.id == request_id]
        for work in requests:
            work.future.cancel()
            work.stopped.set()

    def next_request(self, *, wait: bool) -> QueuedRequest | None:
        """Give the request that waits longest; None when none does, or once all is lost."""
        while True:
            with self._changed:
                if wait:
                    self._changed.wait_for(
                        lambda: self._waiting or self._shutdown_reason is not None
                    )
                if self._shutdown_reason is not None or not self._waiting:
                    return None
                work = self._waiting.popleft()
            if work.future.set_running_or_notify_cancel():
                return work
            self._discard(work)

    def end(self, work: QueuedRequest, outcome: Generation | Exception) -> None:
        """Give a request that was taken its outcome."""
        if isinstance(outcome, Generation):
            work.future.set_result(outcome)
        else:
            work.future.set_exception(outcome)
        self._discard(work)

    def shut_down(self, reason: str) -> None:
        """Take no more requests; those in the works are marked to stop."""
        with self._changed:
            self._shutdown_reason = self._shutdown_reason or reason
            for work in self._unfinished:
                work.stopped.set()
            self._changed.notify_all()

    def fail_unfinished(self) -> None:
        """Fail every request that has not ended, after `shut_down`."""
        with self._changed:
            requests, self._unfinished = self._unfinished, set()
        for work in requests:
            if work.future.running() or work.future.set_running_or_notify_cancel():
                work.future.set_exception(NeverStarted(self._shutdown_reason))

    def _discard(self, work: QueuedRequest) -> None:
        with self._changed:
            self._unfinished.discard(work)


def _failed(error: Exception) -> Future[Generation]:
    future: Future[Generation] = Future()
    future.set_exception(error)
    return future
