"""Papers an hour of one GPU: our engine beside plain `generate` and transformers' own batching.

Llama 3.1 8B's shape with random weights unless a model is given; prompts of papers' lengths, 700
tokens an answer. Our engine's rate is that of the steady state: it starts with all slots in the
middle of their answers and is taken between the moment when the first slot is refilled and the
admission of the last paper.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, get_args
from unittest.mock import patch

import torch
from bitsandbytes.nn import Linear4bit

from benchmarks.llama_shape import TINY, Papers
from benchmarks.measured import report, save
from models.adapters.random_adapter import write_random_adapter
from models.engines.capacity import limit_gpu_memory
from models.engines.card_limit import CardRates, ModelShape, limit_papers_per_hour, measure_rates
from models.engines.continuous import ContinuousEngine, EngineOptions
from models.engines.steady_state import ANSWER_TOKENS, papers_a_second
from models.hashes import adapter_sha256
from models.kernels.attention_selection import AttentionName
from models.kernels.nf4_linear import Nf4Linear
from models.kernels.paged_cache import CacheKind
from models.text.generation import Generation, GenerationRequest
from models.text.reviewer import builtin
from models.text.reviewer import load as load_reviewer
from models.weights.loading import LoadedModel, Weights, load
from models.weights.random_weights import LLAMA31_8B, write_random_llama
from testing.tokenizers import tokenizer_file

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
#: Papers whose prompts alone are read to see what share of a paper's time that takes.
PROMPTS = 8
#: Whose model's shape is measured, and whose sampling.
REVIEWER = load_reviewer(builtin()["llama31-7"])
SYSTEMS = (
    "generate_1",
    "generate_8",
    "generate_batch",
    "nf4_bitsandbytes",
    "nf4",
    "nf4_sampled",
    "nf4_adapter",
    "nf4_adapter_fp8",
    "nf4_adapter_fp8_all",
    "bf16",
    "nf4_fp8",
    "nf4_fp8_all",
    "bf16_fp8",
)


def main() -> None:
    """Measure what --only names, in one run."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model or random_model(Path(scratch), options)
        rates = card_rates()
        ceiling = limit(rates, options.scale)
        results: dict[str, Any] = {"card": vars(rates), "limit_papers_per_hour": round(ceiling)}
        for name in options.only:
            results[name] = _measured(name, folder, Path(scratch), options)
            results[name]["of_limit"] = round(results[name]["papers_per_hour"] / ceiling, 3)
            save(results, options.json)
    report(results, options.json)
    for name in options.only:
        rate, share = results[name]["papers_per_hour"], results[name]["of_limit"]
        print(f"{name:16} {rate:8.0f} papers an hour, {share:.0%} of the card's limit")


def card_rates() -> CardRates:
    """Measure them; a machine without a GPU gets those of an H200, to try the program out."""
    return measure_rates(DEVICE) if DEVICE.type == "cuda" else CardRates(780e12, None, 4.3e12)


def limit(rates: CardRates, scale: float) -> float:
    """Papers an hour of Llama 3.1 8B at the card's rates, with products and cache in bf16."""
    return limit_papers_per_hour(
        rates,
        ModelShape.of(LLAMA31_8B),
        prompt_tokens=9_000 * scale,
        answer_tokens=ANSWER_TOKENS,
    )


def _measured(
    name: str, folder: Path, scratch: Path, options: argparse.Namespace
) -> dict[str, Any]:
    gc.collect()
    if DEVICE.type == "cuda":
        # Else weights lie in what is left of the last system's cache, which then is not given back.
        torch.cuda.empty_cache()
    limit_gpu_memory(_memory_limit(options))
    started = time.monotonic()
    weights: Weights = "bf16" if name.startswith("bf16") else "nf4"
    # For transformers' own forward pass: generate_batch takes FlashAttention where it is installed.
    attention = None if name == "generate_batch" else "sdpa"
    loaded = load_model(folder, weights, attention, ours=not name.startswith("generate"))
    seconds_loading = time.monotonic() - started
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    measures: dict[str, Callable[[LoadedModel, argparse.Namespace], dict[str, Any]]] = {
        "generate_1": lambda loaded, options: plain_generate(loaded, options, 1),
        "generate_8": lambda loaded, options: plain_generate(loaded, options, 8),
        "generate_batch": generate_batch,
    }
    ours = partial(our_engine, variant=Variant.of(name, folder, scratch))
    theirs = patch.object(Nf4Linear, "forward", Linear4bit.forward)
    with theirs if name == "nf4_bitsandbytes" else nullcontext():
        result = measures.get(name, ours)(loaded, options)
    result["seconds_loading"] = round(seconds_loading, 1)
    if DEVICE.type == "cuda":
        result["peak_gib"] = round(torch.cuda.max_memory_reserved() / 2**30, 1)
    return result


def plain_generate(loaded: LoadedModel, options: argparse.Namespace, size: int) -> dict[str, Any]:
    """Run transformers' `generate`, left-padded, one batch after the other."""
    papers = Papers.of(loaded.tokenizer)
    n_batches = max(1, min(3, options.papers // size))
    seconds = []
    for number in range(n_batches):
        prompts = [
            papers.token_ids(papers.request(number * size + i, scale=options.scale))
            for i in range(size)
        ]
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts], device=DEVICE)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        generate = partial(
            loaded.model.generate,
            ids,
            attention_mask=mask.to(DEVICE),
            min_new_tokens=options.answer,
            max_new_tokens=options.answer,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=0,
        )
        seconds.append(_seconds(generate))
    return {"papers_per_hour": 3600 * size / sorted(seconds)[len(seconds) // 2], "runs": seconds}


def generate_batch(loaded: LoadedModel, options: argparse.Namespace) -> dict[str, Any]:
    """Run transformers' continuous batching as it comes."""
    from transformers import GenerationConfig

    papers = Papers.of(loaded.tokenizer)
    n = min(48, options.papers)
    prompts = [papers.token_ids(papers.request(i, scale=options.scale)) for i in range(n)]
    config = GenerationConfig(max_new_tokens=options.answer, do_sample=False, eos_token_id=-1)
    seconds = _seconds(lambda: loaded.model.generate_batch(prompts, generation_config=config))
    return {"papers_per_hour": 3600 * n / seconds, "papers": n, "seconds": seconds}


@dataclass(frozen=True)
class EngineRun:
    """What an engine did with its requests, in the order in which they were submitted."""

    generations: list[Generation]
    #: When each got its slot, in the order of time.
    admitted: list[float]
    seconds: float

    @classmethod
    def of(cls, engine: ContinuousEngine, requests: list[GenerationRequest]) -> EngineRun:
        """Submit all and wait for the last."""
        begun, submitted, futures = time.monotonic(), [], []
        for request in requests:
            futures.append(engine.submit(request))
            submitted.append(time.monotonic())
        generations = [future.result() for future in futures]
        pairs = zip(submitted, generations, strict=True)
        admitted = sorted(at + generation.seconds_queued for at, generation in pairs)
        return cls(generations, admitted, time.monotonic() - begun)


@dataclass(frozen=True)
class Variant:
    """What is asked of our engine beside the papers."""

    kv_cache: CacheKind
    #: What every request asks for that is not as the benchmark's papers have it.
    asked: dict[str, Any]
    adapter: Path

    @classmethod
    def of(cls, name: str, model: Path, scratch: Path) -> Variant:
        """What a system's name says; an adapter of random weights is written if it has one."""
        asked: dict[str, Any] = {}
        adapter = scratch / f"{name}-adapter"
        if name == "nf4_sampled":
            asked = {"temperature": REVIEWER.temperature, "top_p": REVIEWER.top_p}
        if name.startswith("nf4_adapter"):
            assert REVIEWER.base is not None
            write_random_adapter(adapter, model, 0, REVIEWER.base.name)
            asked = {"adapter_sha256": adapter_sha256(adapter)}
        if name.endswith("fp8_all"):
            asked["arithmetic"] = "fp8"
        return cls("fp8" if "_fp8" in name else "bf16", asked, adapter)


def our_engine(
    loaded: LoadedModel, options: argparse.Namespace, variant: Variant
) -> dict[str, Any]:
    """Run ContinuousEngine in its steady state."""
    started = time.monotonic()
    engine = ContinuousEngine(
        loaded,
        find_adapter=lambda _: variant.adapter,
        options=_engine_options(options, variant.kv_cache),
    )
    warm = time.monotonic() - started
    papers = Papers.of(loaded.tokenizer)
    n_before = engine.slots + options.settle
    requests = papers.steady(engine.slots, options.settle + options.papers, scale=options.scale)
    requests = [replace(request, **variant.asked) for request in requests]
    run = EngineRun.of(engine, requests)
    prompt_seconds = _prompt_seconds(engine, requests[-PROMPTS:])
    engine.close()
    steady = _steady(run, n_before)
    measured = run.generations[n_before:]
    if options.settle:
        before = papers_a_second(run.admitted[:n_before], engine.slots)
        steady["papers_per_hour_while_settling"] = 3600 * before
    return {
        **steady,
        "seconds_a_paper": {
            "reading its prompt": round(prompt_seconds, 3),
            "its share of the steps": round(3600 / steady["papers_per_hour"] - prompt_seconds, 3),
        },
        "slots": engine.slots,
        "attention": engine.versions["attention"],
        "attention_selected_from": engine.attention_reason,
        "seconds": round(run.seconds, 1),
        "seconds_until_ready": round(warm, 1),
        "tokens_an_answer": sum(g.n_output_tokens for g in measured) / max(1, len(measured)),
    }


def _memory_limit(options: argparse.Namespace) -> int | None:
    return options.memory_gib and int(options.memory_gib * 2**30)


def _engine_options(options: argparse.Namespace, kind: CacheKind) -> EngineOptions:
    return EngineOptions(
        max_tokens=12_288,
        memory_limit=_memory_limit(options),
        slots=options.slots,
        kv_cache=kind,
        attention=options.attention,
        graphs=options.graphs,
        forced_runs=options.forced_runs,
    )


def _prompt_seconds(engine: ContinuousEngine, requests: list[GenerationRequest]) -> float:
    """Read prompts one after the other and answer with a single token."""
    short = [replace(request, max_new_tokens=1, guided=False) for request in requests]
    return median(engine.submit(request).result().seconds_generating for request in short)


def _steady(run: EngineRun, n_before: int) -> dict[str, Any]:
    """Rate of admissions while the slots are full, after the first `n_before` papers."""
    rate = papers_a_second(run.admitted, n_before)
    prompt = sum(g.n_prompt_tokens for g in run.generations) / len(run.generations)
    return {
        "papers_per_hour": 3600 * rate,
        "papers": len(run.admitted) - n_before,
        "prompt_tokens_per_second": round(rate * prompt),
        "output_tokens_per_second": round(rate * ANSWER_TOKENS),
        "mean_prompt_tokens": round(prompt),
    }


def _seconds(act: Callable[[], Any]) -> float:
    started = time.monotonic()
    act()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.monotonic() - started


def load_model(folder: Path, weights: Weights, attention: str | None, *, ours: bool) -> LoadedModel:
    """Load a folder's Llama; without `ours` its modules stay as transformers made them."""
    base = REVIEWER.base
    assert base is not None
    return load(
        folder,
        base,
        template="llama3",
        weights=weights,
        device=DEVICE,
        attention=attention,
        fused=ours,
    )


def random_model(scratch: Path, options: argparse.Namespace) -> Path:
    """Write one of Llama 3.1 8B's shape, or with --tiny a small one; gives its folder."""
    tokenizer = tokenizer_file(options.tokenizer, scratch).read_bytes()
    shape = TINY if options.tiny else LLAMA31_8B
    return write_random_llama(scratch / "model", tokenizer, shape)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a Llama; default: random weights")
    parser.add_argument("--tokenizer", type=Path, help="Llama 3's tokenizer.json, or .json.xz")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--papers", type=int, default=192)
    parser.add_argument(
        "--settle",
        type=int,
        default=0,
        help="papers between the first fill, whose answers are not guided, and the measured ones; "
        "their rate is given too",
    )
    parser.add_argument("--slots", type=int)
    parser.add_argument("--memory-gib", type=float, help="as if the card had only so much")
    parser.add_argument("--attention", choices=get_args(AttentionName), default="auto")
    parser.add_argument("--no-forced-runs", dest="forced_runs", action="store_false")
    parser.add_argument("--no-graphs", dest="graphs", action="store_false")
    parser.add_argument("--scale", type=float, default=1.0, help="of the papers' lengths")
    parser.add_argument("--answer", type=int, default=ANSWER_TOKENS)
    parser.add_argument("--tiny", action="store_true", help="try it without a GPU")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
