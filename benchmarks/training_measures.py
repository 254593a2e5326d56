"""Samples for the trainers that are measured, and measures of their steps."""

from __future__ import annotations

import random
import statistics
from typing import Any

import torch

from trainer.data.pair_encoding import Sample

#: Steps that are not counted, because kernels are compiled and selected in them.
WARM_UP = 2


def samples(n_tokens: int, n_answer: int, count: int) -> list[Sample]:
    """Samples of random bytes, `n_tokens` each, the last `n_answer` of them the answer's."""
    draw = random.Random(0)
    n_prompt = n_tokens - n_answer

    def ids(n: int) -> tuple[int, ...]:
        return tuple(draw.choices(range(256), k=n))

    return [Sample(ids(n_prompt), ids(n_answer), 0, 0) for _ in range(count)]


def summary(speeds: list[float], losses: list[float]) -> dict[str, Any]:
    """The median rate after warming up, memory, and the first and last loss."""
    counted = speeds[WARM_UP:] or speeds
    on_gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if on_gpu else 0
    reserved = torch.cuda.max_memory_reserved() if on_gpu else 0
    return {
        "tokens_per_second": round(statistics.median(counted), 1),
        "slowest_and_fastest": [round(min(counted), 1), round(max(counted), 1)],
        "steps": len(speeds),
        "peak_allocated_gib": round(peak / 2**30, 2),
        "peak_reserved_gib": round(reserved / 2**30, 2),
        "first_and_last_loss": [round(losses[0], 4), round(losses[-1], 4)] if losses else [],
    }


def wait() -> None:
    """Synchronise the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
