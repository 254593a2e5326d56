"""The reference engine: plain `generate`, one request at a time.

One background thread owns the model. The faster engine is tested against this one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from pathlib import Path
from threading import Event, Thread
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
from models.engines.request_queue import QueuedRequest, RequestQueue, admit, describe_error
from models.grammar.logits_processors import GrammarTables, build_processors
from models.text.aspects import aspect_sets
from models.text.generation import Generation, GenerationRequest
from models.weights.loading import LoadedModel

#: Gives the folder of an adapter by its SHA-256, or raises MissingPart.
FindAdapter = Callable[[str], Path]

_log = logging.getLogger(__name__)


class GenerateEngine:
    """Implements `models.text.generation.Engine` on one loaded model.

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
            loaded.tokenizer, tuple(aspect_sets().values()), self._end_id, loaded.device
        )
        self._queue = RequestQueue(lambda request: admit(loaded, request, loaded.max_context))
        self._thread = Thread(target=self._run, args=(threads,), name="generate", daemon=True)
        self._thread.start()

    @property
    def versions(self) -> Mapping[str, str]:
        """What a review must record to be reproducible."""
        return {"engine": "generate", **self._loaded.versions}

    @property
    def alive(self) -> bool:
        """False once the device is lost or the engine closed: only a new process helps."""
        return self._queue.shutdown_reason is None

    def submit(self, request: GenerationRequest) -> Future[Generation]:
        """Queue a request; returns at once."""
        return self._queue.submit(request)

    def cancel(self, request_id: str) -> None:
        """Stop a request; unknown ids are ignored."""
        self._queue.cancel(request_id)

    def close(self) -> None:
        """Stop; requests still in flight fail with EngineLost."""
        self._queue.shut_down("the engine was closed")
        self._thread.join()

    def _run(self, threads: int) -> None:
        if threads:
            torch.set_num_threads(threads)
        while self.alive:
            self._queue.wait()
            if (work := self._queue.next_request()) is not None:
                self._serve(work)
        self._queue.fail_unfinished()

    def _serve(self, work: QueuedRequest) -> None:
        try:
            self._queue.end(work, self._generate(work))
        except (RequestRefused, EngineLost, CancelledError) as error:
            self._queue.end(work, error)
        except Exception as error:
            # The error itself would keep its frames' tensors alive as long as the future.
            self._queue.end(work, EngineLost(self._recover(error)))

    def _recover(self, error: Exception) -> str:
        """Recover the engine, or shut it down; return the reason as a sentence."""
        _log.warning("generation failed", exc_info=error)
        reason = f"generation failed: {describe_error(error)}"
        if isinstance(error, torch.AcceleratorError):
            self._queue.shut_down(f"the device is lost: {error}".split("\n", 1)[0])
        elif isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
        return reason

    def _generate(self, work: QueuedRequest) -> Generation:
        started = time.monotonic()
        request, prompt = work.request, work.prompt
        self._activate(request.adapter_sha256)
        token_ids = self._token_ids(work)
        if work.stopped.is_set():
            raise CancelledError if self.alive else EngineLost(self._queue.shutdown_reason)
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
            arithmetic="exact",
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

    def _token_ids(self, work: QueuedRequest) -> list[int]:
        """The answer's token ids, with the end token when it was reached."""
        request, prompt_ids = work.request, work.prompt.token_ids
        processors = build_processors(request, self._tables, prompt_length=len(prompt_ids))
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


class _FiniteScores(LogitsProcessor):
    """Fails on NaN, which the processors after it would turn into a wrong but legal token."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not torch.isfinite(scores).all():
            raise FloatingPointError("the model's scores are not finite")
        return scores


class _Stopped(StoppingCriteria):
    """Stops after the current step once the event is set."""

    def __init__(self, stopped: Event) -> None:
        self._stopped = stopped

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full(
            (len(input_ids),), self._stopped.is_set(), dtype=torch.bool, device=input_ids.device
        )
