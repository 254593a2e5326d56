"""Program that measures papers an hour of this machine; `referee bench` starts it.

`python -P -m models.engines.bench CONFIG SECONDS ADAPTER` takes a reviewer as JSON, the seconds to
measure and whether papers have an adapter ("yes" or "no"). It prints a JSON object a line, with one
of the keys `progress`, `error` and `result`; libraries may print other lines between them.

All slots start in the middle of their answers, as in the middle of a long run. The rate is that of
papers that end while the slots are full: each is followed by the next one in its slot. Answers have
their full length, without the output grammar, whose runs of forced tokens save steps.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Condition
from typing import Any

import torch

from errors import MissingPart, RefereeError
from models.adapters.random_adapter import write_random_adapter
from models.engines.capacity import limit_gpu_memory, missing_part_on_out_of_memory
from models.engines.card_limit import CardRates, ModelShape, limit_papers_per_hour, measure_rates
from models.engines.continuous import ContinuousEngine, EngineOptions
from models.engines.steady_state import ANSWER_TOKENS, draw_length, staggered_answers
from models.hashes import adapter_sha256
from models.text import reviewer
from models.text.generation import Generation, GenerationRequest
from models.text.reviewer import ReviewerConfig
from models.weights import store
from models.weights.loading import LoadedModel, default_device, load
from models.weights.quantised_cache import WeightsCache
from models.weights.random_weights import LLAMA31_8B, byte_tokenizer, write_random_llama
from settings import Settings, get_settings

#: Bases whose shape is known without their files.
_SHAPES = {"llama31-8b": LLAMA31_8B, "llama3-8b": LLAMA31_8B}
#: Papers beyond the slots that wait for each second: more than any card ends.
_PAPERS_A_SECOND = 8
#: Ends that a rate needs at least, and how much longer than asked a slow machine may take for them.
_LEAST_ENDS, _PATIENCE = 3, 10
#: Packages whose versions decide the speed.
_PACKAGES = ("torch", "triton", "transformers", "bitsandbytes", "liger-kernel", "flash-attn")
#: Tokens of prompts and answers on a CPU, which would take many minutes for the recipe's.
CPU_PROMPT_TOKENS, CPU_ANSWER_TOKENS = 512, 64
#: Token ids of papers: words of a tokenizer of Llama 3; of a smaller one, its first ids.
_WORDS = range(1_000, 30_000)


@dataclass(frozen=True)
class Workload:
    """What every paper asks for."""

    prompt_tokens: int
    answer_tokens: int
    #: Whether papers and answers are shorter than the reviewer's: their rate is not that of papers.
    short: bool


@dataclass(frozen=True)
class Measured:
    """Papers that ended while all slots were busy, and the rate of their ends."""

    papers: int
    papers_per_hour: float


def main() -> None:
    """Measure and print; an expected error ends as its sentence with its exit code."""
    config, seconds, adapter = sys.argv[1:]
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory(dir=_scratch(get_settings())) as scratch:
            result = measure(
                reviewer.from_json(json.loads(config)),
                get_settings(),
                Path(scratch),
                seconds=float(seconds),
                with_adapter=adapter == "yes",
            )
    except RefereeError as error:
        _print(error=str(error))
        sys.exit(error.exit_code)
    _print(result=result)


def measure(
    config: ReviewerConfig,
    settings: Settings,
    scratch: Path,
    *,
    seconds: float,
    with_adapter: bool,
) -> dict[str, Any]:
    """Load the reviewer's base, or random weights of its shape, and run its engine."""
    assert config.base is not None
    try:
        folder, weights = store.resolve(config.base, settings.home), ""
    except MissingPart:
        folder, weights = _random_weights(config, scratch), "random weights of its shape"
    rates = _card_rates()
    _print(progress="loading the model")
    limit = int(settings.gpu_memory_gib * 2**30) or None
    limit_gpu_memory(limit)
    with missing_part_on_out_of_memory():
        loaded = _load(config, folder, settings, use_cache=not weights)
    adapter = scratch / "adapter"
    if with_adapter:
        write_random_adapter(adapter, folder, 0, config.base.name)
    _suppress_end_token(loaded)
    workload = _workload(config, loaded.device)
    _print(progress="starting the engine")
    started = time.monotonic()
    engine = ContinuousEngine(
        loaded, find_adapter=lambda _: adapter, options=_engine_options(config, settings, limit)
    )
    ready = time.monotonic() - started
    try:
        paper = _paper(config, workload, adapter_sha256(adapter) if with_adapter else None)
        n_words = loaded.tokenizer.get_vocab_size()
        requests = _requests(paper, n_words, engine.slots, seconds)
        _print(progress=f"reading {engine.slots} papers, then measuring for {seconds:.0f} s")
        measured, last = run(engine, requests, seconds)
    finally:
        engine.close()
    mean_prompt = sum(len(request.token_ids) for request in requests) / len(requests)
    return {
        "machine": _machine(loaded.device),
        "installation": {name: _version(name) for name in _PACKAGES},
        "base": config.base.name,
        "weights": weights or config.base.name,
        "adapter": "random weights, rank 16" if with_adapter else None,
        "attention": engine.versions["attention"],
        "attention_selected_from": engine.attention_reason,
        "fused": loaded.versions["fused"],
        "kv_cache": settings.kv_cache,
        "arithmetic": last.arithmetic,
        **asdict(measured),
        "mean_prompt_tokens": round(mean_prompt),
        "answer_tokens": workload.answer_tokens,
        "short_papers": workload.short,
        "slots": engine.slots,
        "seconds_until_ready": round(ready, 1),
        **_limits(rates, loaded, settings, measured, last, mean_prompt, workload),
    }


def run(
    engine: ContinuousEngine, requests: Sequence[GenerationRequest], seconds: float
) -> tuple[Measured, Generation]:
    """Submit all, and measure from the first end on; also the last answer.

    Raises the engine's error if a paper fails.
    """
    ended: list[float] = []
    generations: list[Generation] = []
    errors: list[BaseException] = []
    changed = Condition()

    def note(future: Future[Generation]) -> None:
        error = future.exception()
        with changed:
            if error is None:
                ended.append(time.monotonic())
                generations.append(future.result())
            else:
                errors.append(error)
            changed.notify()

    futures = [engine.submit(request) for request in requests]
    for future in futures:
        future.add_done_callback(note)
    with changed:
        while not ended and not errors:
            changed.wait()
        first = time.monotonic()
        while not errors and len(ended) < len(requests):
            elapsed = time.monotonic() - first
            enough = elapsed >= seconds and len(ended) >= _LEAST_ENDS
            if enough or elapsed >= _PATIENCE * seconds:
                break
            changed.wait(max(0.1, seconds - elapsed))
        if errors:
            raise errors[0]
        times, last = list(ended), generations[-1]
    if len(times) < _LEAST_ENDS:
        raise MissingPart(f"This machine ended {len(times)} papers: measure with more --seconds.")
    rate = (len(times) - 1) / (times[-1] - times[0])
    return Measured(len(times) - 1, round(3600 * rate, 1)), last


def _workload(config: ReviewerConfig, device: torch.device) -> Workload:
    """The reviewer's lengths on a GPU, short ones on a CPU."""
    if device.type == "cpu":
        return Workload(CPU_PROMPT_TOKENS, CPU_ANSWER_TOKENS, short=True)
    answer_tokens = min(ANSWER_TOKENS, config.max_new_tokens)
    return Workload(config.max_prompt_tokens, answer_tokens, short=False)


@torch.inference_mode()
def _suppress_end_token(loaded: LoadedModel) -> None:
    """Let no answer end early: the end token's score is 0, below that of the likeliest one."""
    end_id = loaded.template.end_of_turn_id(loaded.tokenizer)
    loaded.model.lm_head.weight[end_id].zero_()


def _load(
    config: ReviewerConfig, folder: Path, settings: Settings, *, use_cache: bool
) -> LoadedModel:
    assert config.base is not None
    cache = None
    if use_cache and settings.cache_weights:
        cache = WeightsCache(settings.home / "cache" / "weights")
    return load(
        folder,
        config.base,
        template=config.template or "",
        weights=config.weights,
        device=default_device(),
        cache=cache,
    )


def _engine_options(config: ReviewerConfig, settings: Settings, limit: int | None) -> EngineOptions:
    return EngineOptions(
        max_tokens=config.max_request_tokens,
        memory_limit=limit,
        kv_cache=settings.kv_cache,
        attention=settings.attention,
        fp8_prompts=settings.arithmetic == "reviewer",
        threads=settings.torch_threads or max(1, (os.cpu_count() or 1) // 2),
    )


def _random_weights(config: ReviewerConfig, scratch: Path) -> Path:
    """Write a model of the base's shape; MissingPart where the shape is not known."""
    assert config.base is not None
    shape = _SHAPES.get(config.base.name)
    if shape is None or not torch.cuda.is_available():
        raise MissingPart(
            f"model {config.base.name} is not on this machine: run `referee model fetch "
            f"{config.base.name}`, or measure the reviewer of another base with --reviewer"
        )
    _print(progress="writing 15 GiB of random weights, since the model is not on this machine")
    tokenizer = byte_tokenizer(config.template or "").to_str().encode()
    return write_random_llama(scratch / "model", tokenizer, shape)


def _paper(config: ReviewerConfig, workload: Workload, sha256: str | None) -> GenerationRequest:
    """What the request of every paper has in common; greedy."""
    return GenerationRequest(
        id="",
        token_ids=(0,),
        max_prompt_tokens=workload.prompt_tokens,
        max_new_tokens=workload.answer_tokens,
        adapter_sha256=sha256,
        temperature=0.0,
        arithmetic=config.arithmetic,
    )


def _requests(
    paper: GenerationRequest, n_words: int, slots: int, seconds: float
) -> list[GenerationRequest]:
    """Requests like `paper`: those that fill the slots, with staggered answers, and many behind."""
    answers = staggered_answers(slots, paper.max_new_tokens)
    n_waiting = slots + int(seconds * _PAPERS_A_SECOND)
    last = min(_WORDS.stop, n_words)
    words = range(min(_WORDS.start, last // 2), last)
    requests = []
    for number, n_tokens in enumerate([*answers, *[paper.max_new_tokens] * n_waiting]):
        length, draw = draw_length(number)
        ids = draw.choices(words, k=min(length, paper.max_prompt_tokens))
        requests.append(
            replace(paper, id=str(number), token_ids=tuple(ids), max_new_tokens=n_tokens)
        )
    return requests


def _card_rates() -> CardRates | None:
    """Measure a GPU while its memory is free: the engine takes all of it."""
    if not torch.cuda.is_available():
        return None
    rates = measure_rates(default_device())
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return rates


def _limits(
    rates: CardRates | None,
    loaded: LoadedModel,
    settings: Settings,
    measured: Measured,
    last: Generation,
    prompt_tokens: float,
    workload: Workload,
) -> dict[str, Any]:
    """The limit of a GPU in the arithmetic that was used, and its memory; nothing for a CPU."""
    if rates is None:
        return {"limit_papers_per_hour": None, "of_limit": None, "peak_gib": None}
    peak = torch.cuda.max_memory_reserved() / 2**30
    limit = limit_papers_per_hour(
        rates,
        ModelShape.of(loaded.model.config.to_dict()),
        prompt_tokens=prompt_tokens,
        answer_tokens=workload.answer_tokens,
        arithmetic=last.arithmetic or "exact",
        kv_cache=settings.kv_cache,
    )
    return {
        "limit_papers_per_hour": round(limit),
        "of_limit": round(measured.papers_per_hour / limit, 3),
        "peak_gib": round(peak, 1),
    }


def _machine(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"device": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _scratch(settings: Settings) -> Path:
    """Where random weights are written: the disk that holds models, not a small /tmp."""
    folder = settings.home / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _print(**message: object) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
