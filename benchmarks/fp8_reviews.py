"""Reviews by the product's engine in FP8 and in exact arithmetic, some of each paper.

Each sample becomes a file that `referee import reviews` reads: a rival has one review a paper.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.fp8_papers import ReviewedPaper, load_small, reviewer
from models.engines.continuous import ContinuousEngine, EngineOptions
from models.kernels.paged_cache import CacheKind
from models.text.generation import Arithmetic, Engine
from models.text.reviewer import ReviewerConfig

#: A seed is made of so many hexadecimal digits of the paper's hash, and the sample's number.
_SEED_DIGITS = 7
#: Tokens of a prompt where this is tried without a GPU; the system prompt alone takes 150.
TINY_PROMPT = 300


@dataclass(frozen=True)
class Side:
    """One of the two compared ways, for prompts and cache together."""

    kv_cache: CacheKind
    arithmetic: Arithmetic


SIDES = {"exact": Side("bf16", "exact"), "fp8": Side("fp8", "fp8")}


def write_reviews(
    papers: Sequence[ReviewedPaper],
    adapter: Path,
    out: Path,
    *,
    sides: Sequence[str],
    samples: int,
    slots: int | None = None,
    tiny: bool = False,
) -> dict[str, Any]:
    """Write SIDE-SAMPLE.jsonl for every side and sample; return the figures of each side.

    A paper's sample has the same seed on both sides. RuntimeError where the device cannot read
    prompts as a side says. `tiny` shortens prompts, to try this without a GPU.
    """
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in sides:
        side = SIDES[name]
        config = replace(reviewer(), arithmetic=side.arithmetic)
        if tiny:
            config = replace(config, max_prompt_tokens=TINY_PROMPT)
        engine = _open_engine(config, side.kv_cache, adapter, slots)
        try:
            results[name] = _write_side(engine, config, papers, out, name, samples)
        finally:
            engine.close()
        print(name, results[name], flush=True)
    return {"papers": len(papers), "samples": samples, **results}


def _open_engine(
    config: ReviewerConfig, kv_cache: CacheKind, adapter: Path, slots: int | None
) -> Engine:
    options = EngineOptions(max_tokens=config.max_request_tokens, slots=slots, kv_cache=kv_cache)
    return ContinuousEngine(load_small(), find_adapter=lambda _: adapter, options=options)


def _write_side(
    engine: Engine,
    config: ReviewerConfig,
    papers: Sequence[ReviewedPaper],
    out: Path,
    name: str,
    samples: int,
) -> dict[str, Any]:
    """Submit all requests at once; the engine queues those without a slot."""
    started = time.monotonic()
    futures = {
        sample: [engine.submit(_request(config, paper, sample)) for paper in papers]
        for sample in range(samples)
    }
    n_tokens = n_complete = 0
    for sample, each in futures.items():
        lines = []
        for paper, future in zip(papers, each, strict=True):
            generation = future.result()
            if generation.arithmetic != config.arithmetic:
                raise RuntimeError(f"this device does not read prompts in {config.arithmetic}")
            n_tokens += generation.n_output_tokens
            n_complete += generation.finish == "stop"
            lines.append(json.dumps({"custom_id": paper.sha256, "text": generation.text}))
        (out / f"{name}-{sample}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return {
        "seconds": round(time.monotonic() - started, 1),
        "tokens_a_review": round(n_tokens / (samples * len(papers)), 1),
        "complete": round(n_complete / (samples * len(papers)), 4),
        "versions": dict(engine.versions),
    }


def _request(config: ReviewerConfig, paper: ReviewedPaper, sample: int) -> Any:
    seed = int(paper.sha256[:_SEED_DIGITS], 16) * 16 + sample
    return config.request(f"{sample}.{paper.sha256}", paper.paper, seed)
