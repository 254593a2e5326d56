"""The queue of a local engine: admits requests and completes their futures."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Event
from typing import TYPE_CHECKING

from errors import NeverStarted, RequestRefused
from models.text.generation import Generation, GenerationRequest
from models.text.prompt import Prompt, build_prompt

if TYPE_CHECKING:
    from models.weights.loading import LoadedModel


def admit(loaded: LoadedModel, request: GenerationRequest, max_tokens: int) -> Prompt:
    """Build the request's prompt.

    RequestRefused when it needs another template (kind `template`) or a JSON answer (kind
    `unsupported`), or when prompt and answer may take more than `max_tokens` (kind `too_long`).
    """
    if request.template not in (None, loaded.template.name):
        raise RequestRefused(
            f"the request wants template {request.template}, the engine has {loaded.template.name}",
            kind="template",
        )
    if request.json_schema is not None:
        raise RequestRefused("a local model cannot follow a JSON schema", kind="unsupported")
    prompt = build_prompt(loaded.tokenizer, request, loaded.template)
    n_tokens = prompt.n_prompt_tokens + request.max_new_tokens
    if n_tokens > max_tokens:
        raise RequestRefused(
            f"prompt and answer may take {n_tokens} tokens, but the context holds {max_tokens}",
            kind="too_long",
        )
    return prompt


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
    """Requests between the threads that submit them and the one that owns the model."""

    def __init__(self, admit: Callable[[GenerationRequest], Prompt]) -> None:
        """`admit` gives a request's prompt, or raises RequestRefused."""
        self._admit = admit
        self._changed = Condition()
        #: By priority, then age.
        self._waiting: list[QueuedRequest] = []
        #: Waiting or taken, not yet ended.
        self._unfinished: set[QueuedRequest] = set()
        #: When there was last nothing to do.
        self.busy_since = time.monotonic()
        self._shutdown_reason: str | None = None

    @property
    def shutdown_reason(self) -> str | None:
        """Why nothing more can be generated; None while the engine works."""
        return self._shutdown_reason

    @property
    def busy(self) -> bool:
        """Is any request waiting or running?"""
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
            insort(self._waiting, work, key=lambda each: each.request.priority)
            self._changed.notify()
        return work.future

    def cancel(self, request_id: str) -> None:
        """End a waiting request, and mark a running one to stop; unknown ids are ignored."""
        with self._changed:
            requests = [work for work in self._unfinished if work.request.id == request_id]
        for work in requests:
            work.future.cancel()
            work.stopped.set()

    def wait(self) -> None:
        """Return when a request waits, or after `shut_down`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._shutdown_reason is not None)

    def next_request(
        self, fits: Callable[[QueuedRequest], bool] = lambda _: True
    ) -> QueuedRequest | None:
        """Take the first waiting request: by priority, then age.

        None if there is none or it does not fit yet, or after `shut_down`. No request overtakes one
        that does not fit, except by priority.
        """
        while True:
            with self._changed:
                if self._shutdown_reason is not None or not self._waiting:
                    return None
                if not (self._waiting[0].future.cancelled() or fits(self._waiting[0])):
                    return None
                work = self._waiting.pop(0)
            if work.future.set_running_or_notify_cancel():
                return work
            self._discard(work)

    def end(self, work: QueuedRequest, outcome: Generation | Exception) -> None:
        """Complete a running request with its outcome."""
        if isinstance(outcome, Generation):
            work.future.set_result(outcome)
        else:
            work.future.set_exception(outcome)
        self._discard(work)

    def shut_down(self, reason: str) -> None:
        """Accept no more requests; running ones are marked to stop."""
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


def describe_error(error: Exception) -> str:
    """The type of an error and the first line of its message."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]
