"""The reference engine: plain `generate`, one request at a time; knows nothing of jobs.

One background thread owns the model. The faster engine is tested against this one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from errors import EngineLost, MissingPart, RequestRefused
from models.aspects import ASPECT_SETS
from models.engine import Generation, ReviewRequest
from models.loading import LoadedModel
from models.processors import GrammarTables, processors_for
from models.prompt import Prompt, build_prompt

#: Gives the folder of an adapter by its SHA-256, or raises MissingPart.
FindAdapter = Callable[[str], Path]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Work:
    """A request that was admitted, from its submission to its future's end."""

    request: ReviewRequest
    prompt: Prompt
    future: Future[Generation] = field(default_factory=Future)
    stopped: Event = field(default_factory=Event)
    submitted_at: float = field(default_factory=time.monotonic)


class GenerateEngine:
    """Implements `models.engine.Engine` on one loaded model.

    A request that is cancelled fails with CancelledError, whether it waits or runs; a running one
    stops at its next decode step, so a prefill is finished first.
    """

    slots = 1

    def __init__(
        self, loaded: LoadedModel, *, find_adapter: FindAdapter | None = None, threads: int = 0
    ) -> None:
        """`threads` is how many CPU threads torch uses; 0 leaves the choice to torch."""
        self._loaded = loaded
        self._find_adapter = find_adapter
        self._end_id = loaded.template.end_of_turn_id(loaded.tokenizer)
        self._tables = GrammarTables.build(
            loaded.tokenizer, tuple(ASPECT_SETS.values()), self._end_id, loaded.device
        )
        self._lock = Lock()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._works: set[_Work] = set()
        self._lost: str | None = None
        self._thread = Thread(target=self._run, args=(threads,), name="generate", daemon=True)
        self._thread.start()

    @property
    def versions(self) -> Mapping[str, str]:
        """What a review must record to be reproducible."""
        return {"engine": "generate", **self._loaded.versions}

    @property
    def alive(self) -> bool:
        """False once the device is lost or the engine closed: only a new process helps."""
        return self._lost is None

    def submit(self, request: ReviewRequest) -> Future[Generation]:
        """Queue a request; returns at once."""
        try:
            work = _Work(request, self._admit(request))
        except RequestRefused as refusal:
            return _failed(refusal)
        with self._lock:
            if self._lost is not None:
                return _failed(EngineLost(self._lost))
            self._works.add(work)
            self._queue.put(work)
        return work.future

    def cancel(self, request_id: str) -> None:
        """Stop a request; unknown ids are ignored."""
        with self._lock:
            works = [work for work in self._works if work.request.id == request_id]
        for work in works:
            work.future.cancel()
            work.stopped.set()

    def close(self) -> None:
        """Stop; requests still in flight fail with EngineLost."""
        self._lose("the engine was closed")
        self._thread.join()

    def _admit(self, request: ReviewRequest) -> Prompt:
        """The request's prompt; RequestRefused when this engine cannot serve it."""
        template, context = self._loaded.template.name, self._loaded.max_context
        if request.template != template:
            raise RequestRefused(
                f"the request wants template {request.template}, the engine has {template}",
                kind="template",
            )
        prompt = build_prompt(self._loaded.tokenizer, request)
        n_tokens = prompt.n_prompt_tokens + request.max_new_tokens
        if n_tokens > context:
            raise RequestRefused(
                f"prompt and answer may take {n_tokens} tokens, but the context holds {context}",
                kind="too_long",
            )
        return prompt

    def _run(self, threads: int) -> None:
        if threads:
            torch.set_num_threads(threads)
        while (work := self._queue.get()) is not None and self.alive:
            self._serve(work)
        self._fail_waiting(work)

    def _serve(self, work: _Work) -> None:
        if work.future.set_running_or_notify_cancel():
            try:
                work.future.set_result(self._generate(work))
            except (RequestRefused, EngineLost, CancelledError) as error:
                work.future.set_exception(error)
            except Exception as error:
                # The error itself would keep its frames' tensors alive as long as the future.
                work.future.set_exception(EngineLost(self._after(error)))
        with self._lock:
            self._works.discard(work)

    def _after(self, error: Exception) -> str:
        """Bring the engine in order again, or give it up; returns the reason as a sentence."""
        _log.warning("generation failed", exc_info=error)
        reason = f"generation failed: {type(error).__name__}: {error}".split("\n", 1)[0]
        if isinstance(error, torch.AcceleratorError):
            self._lose(f"the device is lost: {error}".split("\n", 1)[0])
        elif isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
        return reason

    def _lose(self, reason: str) -> None:
        with self._lock:
            self._lost = self._lost or reason
            for work in self._works:
                work.stopped.set()
            self._queue.put(None)

    def _fail_waiting(self, work: _Work | None) -> None:
        """No request is added once the engine is lost, so the queue's end is the last of them."""
        while True:
            if work is not None and work.future.set_running_or_notify_cancel():
                work.future.set_exception(EngineLost(self._lost))
            try:
                work = self._queue.get_nowait()
            except Empty:
                return

    def _generate(self, work: _Work) -> Generation:
        started = time.monotonic()
        request, prompt = work.request, work.prompt
        self._activate(request.adapter_sha256)
        token_ids = self._token_ids(work)
        if work.stopped.is_set():
            raise CancelledError if self._lost is None else EngineLost(self._lost)
        return Generation(
            text=self._loaded.tokenizer.decode(token_ids, skip_special_tokens=True),
            token_ids=tuple(token_ids),
            finish="stop" if token_ids[-1] == self._end_id else "length",
            n_prompt_tokens=prompt.n_prompt_tokens,
            n_output_tokens=len(token_ids),
            truncated_tokens=prompt.truncated_tokens,
            seconds_queued=started - work.submitted_at,
            seconds_generating=time.monotonic() - started,
            adapter_sha256=request.adapter_sha256,
        )

    def _activate(self, sha256: str | None) -> None:
        adapters = self._loaded.adapters
        if sha256 == adapters.active:
            return
        if sha256 is not None and sha256 not in adapters.attached:
            adapters.attach(self._adapter_folder(sha256), sha256)
        adapters.activate(sha256)

    def _adapter_folder(self, sha256: str) -> Path:
        if self._find_adapter is None:
            raise RequestRefused("this engine was started without adapters", kind="adapter")
        try:
            return self._find_adapter(sha256)
        except MissingPart as missing:
            raise RequestRefused(str(missing), kind="adapter") from missing

    def _token_ids(self, work: _Work) -> list[int]:
        """The answer's token ids, with the end token when it was reached."""
        request, prompt_ids = work.request, work.prompt.token_ids
        processors = processors_for(request, self._tables, prompt_length=len(prompt_ids))
        inputs = torch.tensor([prompt_ids], device=self._loaded.device)
        outputs = self._loaded.model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            generation_config=GenerationConfig(
                max_new_tokens=request.max_new_tokens,
                # Sampling happens inside the processors, from the request's own seed.
                do_sample=False,
                eos_token_id=self._end_id,
                pad_token_id=self._end_id,
            ),
            logits_processor=LogitsProcessorList([_FiniteScores(), *processors]),
            stopping_criteria=StoppingCriteriaList([_Stopped(work.stopped)]),
        )
        token_ids: list[int] = outputs[0, len(prompt_ids) :].tolist()
        return token_ids


class _FiniteScores(LogitsProcessor):  # type: ignore[misc]  # transformers has no types
    """Fails on NaN, which the processors after it would turn into a wrong but legal token."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not torch.isfinite(scores).all():
            raise FloatingPointError("the model's scores are not finite")
        return scores


class _Stopped(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    """Stops after the current step once the event is set."""

    def __init__(self, stopped: Event) -> None:
        self._stopped = stopped

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full(
            (len(input_ids),), self._stopped.is_set(), dtype=torch.bool, device=input_ids.device
        )


def _failed(error: Exception) -> Future[Generation]:
    future: Future[Generation] = Future()
    future.set_exception(error)
    return future
