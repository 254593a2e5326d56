"""The product's engine: many requests at once on one model.

One background thread owns the model. It admits a request as soon as a slot and blocks are free,
reads its prompt, and gives every request in a slot its next token in one step. Prompts are never
mixed into a step: a prefill is bound by arithmetic and a step by memory.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from traceback import format_exception

import torch

from errors import EngineCrashed, EngineLost, MissingPart, RefereeError, RequestRefused
from models.adapters.adapter_bank import AdapterBank
from models.engines.capacity import measure, missing_part_on_out_of_memory
from models.engines.decoder import CausalModel, Decoder, StepResult
from models.engines.request_queue import QueuedRequest, RequestQueue, admit, describe_error
from models.grammar.token_tables import GrammarTables
from models.kernels.attention_selection import AttentionName, select_attention
from models.kernels.paged_attention import ATTENTION
from models.kernels.paged_cache import CacheKind, CacheShape, PagedCache
from models.kernels.prompt_arithmetic import PromptArithmetic
from models.text.aspects import aspect_sets
from models.text.generation import Generation, GenerationRequest
from models.weights.loading import LoadedModel

#: Gives the folder of an adapter by its SHA-256, or raises MissingPart.
FindAdapter = Callable[[str], Path]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineOptions:
    """How an engine uses its device. None and 0 leave the choice to the engine."""

    #: The longest request that can be admitted, prompt and answer together, in tokens.
    max_tokens: int | None = None
    slots: int | None = None
    #: Bytes of the GPU that PyTorch is held to, see models.engines.capacity.limit_gpu_memory.
    memory_limit: int | None = None
    #: CPU threads of torch.
    threads: int = 0
    #: Keys and values in eight bits take half the memory and a little of the exactness.
    kv_cache: CacheKind = "bf16"
    #: What reads prompts and the cache; `auto` takes the fastest, see select_attention.
    attention: AttentionName = "auto"
    #: Read a prompt in FP8 where its request and the device allow it.
    fp8_prompts: bool = True
    graphs: bool = True
    #: Read runs of tokens that the grammar forces in one step.
    forced_runs: bool = True
    #: Start a step before the last one's result is known.
    async_steps: bool = True


@dataclass(frozen=True)
class StepFailure:
    """An error of a step in words: an exception would keep the tensors of its frames alive."""

    reason: str
    device_lost: bool
    out_of_memory: bool

    @classmethod
    def of(cls, error: Exception) -> StepFailure:
        """Log the error as text, since a log handler may keep an exception, and describe it."""
        _log.warning("a step failed\n%s", "".join(format_exception(error)))
        return cls(
            describe_error(error),
            device_lost=isinstance(error, torch.AcceleratorError),
            out_of_memory=isinstance(error, torch.OutOfMemoryError),
        )


def request_failure(work: QueuedRequest, error: Exception) -> RefereeError:
    """Log an error of one request, and return the failure of its future."""
    _log.warning("request %s failed\n%s", work.request.id, "".join(format_exception(error)))
    return EngineLost(f"generation failed: {describe_error(error)}")


@dataclass(frozen=True, eq=False)
class _RunningRequest:
    """A request in a slot."""

    work: QueuedRequest
    started_at: float


@dataclass(frozen=True)
class _StartedStep:
    """A step that was started, and the requests that were running then."""

    result: StepResult
    running: Mapping[int, _RunningRequest]


class ContinuousEngine:
    """Implements `models.text.generation.Engine` on one loaded model.

    An error in one request fails only that request, with EngineLost. An error in a step fails all
    running requests, with EngineCrashed, and the cache is rebuilt, with fewer slots after an
    out-of-memory error. When the device is lost, `alive` is False and the process must be replaced.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        find_adapter: FindAdapter | None = None,
        options: EngineOptions | None = None,
    ) -> None:
        """Return when the engine is warm. MissingPart when the device has too little memory."""
        self._options = options or EngineOptions()
        self._loaded, self._find_adapter = loaded, find_adapter
        self._max_tokens = min(loaded.max_context, self._options.max_tokens or loaded.max_context)
        self._end_id = loaded.template.end_of_turn_id(loaded.tokenizer)
        self._shape = CacheShape.of(loaded.model, self._options.kv_cache)
        self._queue = RequestQueue(lambda request: admit(loaded, request, self._max_tokens))
        self._running: dict[int, _RunningRequest] = {}
        self._progress_at = time.monotonic()
        self._failure: BaseException | None = None
        ready = Event()
        self._thread = Thread(target=self._run, args=(ready,), name="engine", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    @property
    def slots(self) -> int:
        """How many requests make progress at the same time."""
        return self._capacity.slots

    @property
    def versions(self) -> Mapping[str, str]:
        """What a review must record to be reproducible."""
        return {
            **self._loaded.versions,
            "engine": "continuous",
            "kv_cache": self._options.kv_cache,
            "attention": self._attention.name,
        }

    @property
    def attention_reason(self) -> str:
        """What the attention was selected from, with times."""
        return self._attention.reason

    @property
    def alive(self) -> bool:
        """False once the device is lost or the engine closed: only a new process helps."""
        return self._queue.shutdown_reason is None

    @property
    def seconds_without_progress(self) -> float:
        """How long ago the last token was written; 0 while there is nothing to write."""
        if not (self._queue.busy and self.alive):
            return 0.0
        return time.monotonic() - max(self._progress_at, self._queue.busy_since)

    def submit(self, request: GenerationRequest) -> Future[Generation]:
        """Queue a request; returns at once."""
        return self._queue.submit(request)

    def cancel(self, request_id: str) -> None:
        """Stop a request at its next step; unknown ids are ignored."""
        self._queue.cancel(request_id)

    def close(self) -> None:
        """Stop; requests still in flight fail with EngineLost."""
        self._queue.shut_down("the engine was closed")
        self._thread.join()

    # Everything below runs in the engine's own thread.

    @torch.inference_mode()
    def _run(self, ready: Event) -> None:
        try:
            with missing_part_on_out_of_memory():
                self._prepare()
        except BaseException as error:
            self._failure = error
            self._queue.shut_down(f"the engine did not start: {error}")
            return
        finally:
            ready.set()
        pending: _StartedStep | None = None
        while self._wait_for_work():
            failure = None
            try:
                pending = self._run_step(pending)
            except Exception as error:
                pending, failure = None, StepFailure.of(error)
            # Only now: until here the error held what its frames did, and that is the cache.
            if failure is not None:
                self._recover(failure)
        self._queue.fail_unfinished()

    def _prepare(self) -> None:
        if self._options.threads:
            torch.set_num_threads(self._options.threads)
        loaded = self._loaded
        loaded.model.set_attn_implementation(ATTENTION)
        self._tables = GrammarTables.build(
            loaded.tokenizer, tuple(aspect_sets().values()), self._end_id, loaded.device
        )
        self._attention = select_attention(
            self._shape, loaded.model.config.num_attention_heads, self._options.attention
        )
        _log.info("attention %s (%s)", self._attention.name, self._attention.reason)
        self._arithmetic = PromptArithmetic(loaded.model, allow_fp8=self._options.fp8_prompts)
        self._capacity = measure(
            loaded,
            self._shape,
            self._attention,
            self._arithmetic,
            max_tokens=self._max_tokens,
            slots=self._options.slots,
            memory_limit=self._options.memory_limit,
        )
        self._bank = AdapterBank(loaded.model, loaded.base, self._capacity.slots)
        self._build()

    def _build(self) -> None:
        """Lay out the cache and the slots, and record the graphs."""
        capacity = self._capacity
        self._cache = PagedCache(
            self._shape,
            n_blocks=capacity.n_blocks,
            block_tokens=capacity.block_tokens,
            slots=capacity.slots,
            max_tokens=capacity.max_tokens,
        )
        on_gpu = self._loaded.device.type == "cuda"
        graphs = self._options.graphs and on_gpu and self._attention.step.capturable
        model = CausalModel(self._loaded.model)
        self._decoder = Decoder(
            model,
            self._tables,
            self._cache,
            self._attention,
            self._bank,
            self._arithmetic,
            graphs=graphs,
            forced_runs=self._options.forced_runs,
        )
        self._async_steps = graphs and self._options.async_steps
        if graphs:
            self._decoder.warm_up()

    def _wait_for_work(self) -> bool:
        """Sleep until there is something to do; False once the engine is lost."""
        if not self._running:
            self._queue.wait()
            self._progress_at = time.monotonic()
        return self.alive

    def _run_step(self, pending: _StartedStep | None) -> _StartedStep | None:
        """Admit requests, start a step, and finish those that ended in the previous step."""
        self._cancel_stopped()
        self._admit_waiting()
        started = self._step() if self._running else None
        if not self._async_steps:
            pending, started = started, None
        if pending is not None:
            self._collect(pending)
        return started

    def _cancel_stopped(self) -> None:
        for slot, running_request in list(self._running.items()):
            if running_request.work.stopped.is_set():
                self._finish(slot, CancelledError())

    def _admit_waiting(self) -> None:
        while len(self._running) < self._capacity.slots:
            work = self._queue.next_request(lambda each: self._cache.has_room(each.n_tokens))
            if work is None:
                return
            self._start_request(work)

    def _start_request(self, work: QueuedRequest) -> None:
        """Put a request into a slot and read its prompt."""
        if work.stopped.is_set():
            self._queue.end(work, CancelledError())
            return
        slot = next(n for n in range(self._capacity.slots) if n not in self._running)
        # Registered before any work on the device: a failure ends all registered requests.
        self._running[slot] = _RunningRequest(work, time.monotonic())
        self._cache.reserve(slot, work.n_tokens)
        try:
            self._prefill(slot, work)
        except RequestRefused as refusal:
            self._finish(slot, refusal)
        except (torch.AcceleratorError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            self._finish(slot, request_failure(work, error))

    def _prefill(self, slot: int, work: QueuedRequest) -> None:
        sha256 = work.request.adapter_sha256
        if sha256 is not None and sha256 not in self._bank:
            self._bank.attach(self._adapter_folder(sha256), sha256)
        self._decoder.prefill(slot, work.request, work.prompt.token_ids, sha256)
        self._progress_at = time.monotonic()

    def _adapter_folder(self, sha256: str) -> Path:
        if self._find_adapter is None:
            raise RequestRefused("this engine was started without adapters", kind="adapter")
        try:
            return self._find_adapter(sha256)
        except MissingPart as missing:
            raise RequestRefused(str(missing), kind="adapter") from missing

    def _step(self) -> _StartedStep:
        return _StartedStep(self._decoder.step(1 + max(self._running)), dict(self._running))

    def _collect(self, pending: _StartedStep) -> None:
        """Finish the requests that ended in a step; slots that were reused since are skipped."""
        live, non_finite = pending.result.read()
        self._progress_at = time.monotonic()
        for slot, running_request in pending.running.items():
            if live[slot] or self._running.get(slot) is not running_request:
                continue
            error = EngineLost("the model's scores are not finite") if non_finite[slot] else None
            self._finish(slot, error or self._generation(slot, running_request))

    def _generation(self, slot: int, running_request: _RunningRequest) -> Generation:
        work, token_ids = running_request.work, self._decoder.answer(slot)
        return Generation(
            text=self._loaded.tokenizer.decode(token_ids, skip_special_tokens=True),
            token_ids=tuple(token_ids),
            finish="stop" if token_ids[-1] == self._end_id else "length",
            n_prompt_tokens=work.prompt.n_prompt_tokens,
            n_output_tokens=len(token_ids),
            truncated_tokens=work.prompt.truncated_tokens,
            seconds_queued=running_request.started_at - work.submitted_at,
            seconds_generating=time.monotonic() - running_request.started_at,
            adapter_sha256=work.request.adapter_sha256,
            arithmetic=self._arithmetic.choose(work.request.arithmetic),
        )

    def _finish(self, slot: int, outcome: Generation | Exception) -> None:
        self._decoder.clear_slot(slot)
        self._cache.release(slot)
        self._queue.end(self._running.pop(slot).work, outcome)

    def _recover(self, failure: StepFailure) -> None:
        """Fail all running requests and rebuild the slots, or shut the engine down."""
        try:
            if failure.device_lost:
                self._queue.shut_down(f"the engine is lost: {failure.reason}")
            else:
                self._rebuild(shrink=failure.out_of_memory)
        except Exception as final:
            self._queue.shut_down(f"the engine is lost: {describe_error(final)}")
        finally:
            running, self._running = self._running, {}
            for running_request in running.values():
                self._queue.end(
                    running_request.work, EngineCrashed(f"generation failed: {failure.reason}")
                )

    def _rebuild(self, *, shrink: bool) -> None:
        # Free the old tensors first, or the new ones do not fit.
        del self._decoder, self._cache
        gc.collect()
        if self._loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        if shrink:
            self._capacity = self._capacity.reduced()
        self._bank.reset_rows()
        self._build()
