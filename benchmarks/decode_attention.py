"""Attention of decode steps over a paged cache and of prompts, by each installed implementation.

Llama 3.1 8B's heads; rows as long as papers with half an answer. Steps are replayed from CUDA
graphs, as engines do. Rates are of the bytes of keys and values, and of causal operations.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.measured import report
from models.engines.steady_state import ANSWER_TOKENS, LENGTHS
from models.kernels.attention_backends import (
    CudnnPrompt,
    FlashPrompt,
    FlashStep,
    TorchFlashPrompt,
    TritonStep,
)
from models.kernels.decode_attention import BLOCK_TOKENS
from models.kernels.device_support import flash_versions
from models.kernels.fp8 import FP8
from models.kernels.paged_attention import DecodePlan, PromptAttention, StepAttention
from models.kernels.paged_cache import CacheShape, PagedCache

DEVICE = torch.device("cuda")
KV_HEADS, QUERY_HEADS, HEAD_DIM = 8, 32, 128
SCALE = HEAD_DIM**-0.5
MAX_TOKENS = 12_288
ROWS = (1, 8, 30, 60, 113, 190)
PROMPT_TOKENS = (2_000, 9_000, 11_138)
#: Bytes that are copied to see what the card can do.
COPIED_BYTES = 1 << 31


def main() -> None:
    """Measure all; print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    copy_rate = _copy_rate(options.repetitions)
    results: dict[str, Any] = {"copy_tb_s": round(copy_rate / 1e12, 3), "steps": [], "prompts": []}
    for dtype in (torch.bfloat16, FP8):
        for n_rows in options.rows:
            results["steps"] += _steps(dtype, n_rows, copy_rate, options.repetitions)
            torch.cuda.empty_cache()
    for n_tokens in PROMPT_TOKENS:
        results["prompts"] += _prompts(n_tokens, options.repetitions)
    report(results, options.json)
    for measured in (*results["steps"], *results["prompts"]):
        print(*measured.values())


def _copy_rate(repetitions: int) -> float:
    source = torch.empty(COPIED_BYTES, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    milliseconds = _milliseconds(lambda: target.copy_(source), repetitions)
    return 2 * COPIED_BYTES / median(milliseconds) * 1000


@torch.inference_mode()
def _steps(
    dtype: torch.dtype, n_rows: int, copy_rate: float, repetitions: int
) -> Iterable[dict[str, Any]]:
    """Each implementation on one cache."""
    draw = random.Random(1)
    lengths = [
        int(draw.triangular(LENGTHS[0], LENGTHS[2], LENGTHS[1])) + draw.randrange(ANSWER_TOKENS)
        for _ in range(n_rows)
    ]
    shape = CacheShape(1, KV_HEADS, HEAD_DIM, dtype, DEVICE)
    cache = PagedCache(
        shape,
        n_blocks=sum(-(-length // BLOCK_TOKENS) for length in lengths),
        block_tokens=BLOCK_TOKENS,
        slots=n_rows,
        max_tokens=MAX_TOKENS,
    )
    prompt = _random(2, max(lengths), KV_HEADS)
    for slot, length in enumerate(lengths):
        cache.reserve(slot, length)
        mapping = cache.slot_mapping(slot, length)
        cache.write_prompt(0, slot, mapping, *prompt[:, :length])
    seen = torch.tensor(lengths, dtype=torch.int32, device=DEVICE)
    query = _random(n_rows, QUERY_HEADS)
    n_bytes = sum(lengths) * shape.bytes_per_token
    found = []
    for attention in _step_attentions(dtype):
        plan = DecodePlan(attention, cache, seen.long(), seen.long(), seen)
        graph = _captured(partial(attention, query, 0, plan, SCALE))
        milliseconds = _milliseconds(graph.replay, repetitions)
        rate = n_bytes / median(milliseconds) * 1000
        found.append(
            {
                "attention": attention.name,
                "cache": "fp8" if dtype == FP8 else "bf16",
                "rows": n_rows,
                **_spread(milliseconds),
                "tb_s": round(rate / 1e12, 3),
                "of_copy": round(rate / copy_rate, 3),
            }
        )
    return found


def _step_attentions(dtype: torch.dtype) -> list[StepAttention]:
    names = [n for n in flash_versions(DEVICE) if dtype != FP8 or n == "flash_attention_3"]
    return [TritonStep(), *map(FlashStep, names)]


@torch.inference_mode()
def _prompts(n_tokens: int, repetitions: int) -> Iterable[dict[str, Any]]:
    query, key, value = (_random(1, n_tokens, n) for n in (QUERY_HEADS, KV_HEADS, KV_HEADS))
    attentions: list[PromptAttention] = [CudnnPrompt(), TorchFlashPrompt()]
    attentions += map(FlashPrompt, flash_versions(DEVICE))
    for attention in attentions:
        run = partial(attention, query, key, value, SCALE)
        milliseconds = _milliseconds(run, repetitions)
        operations = 2 * n_tokens**2 * QUERY_HEADS * HEAD_DIM
        yield {
            "attention": attention.name,
            "prompt_tokens": n_tokens,
            **_spread(milliseconds),
            "tflop_s": round(operations / median(milliseconds) / 1e9, 1),
        }


def _random(*size: int) -> torch.Tensor:
    return torch.randn(*size, HEAD_DIM, device=DEVICE, dtype=torch.bfloat16)


def _captured(run: Callable[[], object]) -> torch.cuda.CUDAGraph:
    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def _milliseconds(run: Callable[[], object], repetitions: int) -> list[float]:
    run()
    times = []
    for _ in range(repetitions):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return times


def _spread(milliseconds: list[float]) -> dict[str, float]:
    return {
        "ms": round(median(milliseconds), 4),
        "least_ms": round(min(milliseconds), 4),
        "most_ms": round(max(milliseconds), 4),
    }


if __name__ == "__main__":
    main()
