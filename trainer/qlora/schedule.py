"""The samples and the learning rate of each step, as functions of seed and step only.

A run that is resumed, or uses another number of GPUs, gets the same batches.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache

from trainer.qlora.recipe import Recipe


def batch_indices(step: int, n_samples: int, recipe: Recipe) -> list[int]:
    """Indices of the samples of step number `step`, counted from 0; a batch may span two epochs."""
    last = round(recipe.epochs * n_samples)
    places = range(step * recipe.batch, min((step + 1) * recipe.batch, last))
    return [
        _epoch(place // n_samples, n_samples, recipe.seed)[place % n_samples] for place in places
    ]


@lru_cache(maxsize=2)
def _epoch(epoch: int, n_samples: int, seed: int) -> tuple[int, ...]:
    order = list(range(n_samples))
    random.Random(f"{seed} {epoch}").shuffle(order)
    return tuple(order)


def learning_rate(step: int, n_steps: int, recipe: Recipe) -> float:
    """Learning rate of step number `step`, counted from 0."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    if recipe.schedule == "constant":
        return recipe.learning_rate
    done = (step - recipe.warmup_steps) / max(1, n_steps - recipe.warmup_steps)
    return recipe.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)


def split_batch(lengths: Sequence[int], n_processes: int) -> list[list[int]]:
    """Divide the samples of a batch so that all processes have about equally many tokens.

    Longest first, each to the process with the fewest (Graham 1969); each share keeps the order.
    """
    loads = [0] * n_processes
    parts: list[list[int]] = [[] for _ in range(n_processes)]
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        process = loads.index(min(loads))
        loads[process] += lengths[place]
        parts[process].append(place)
    return [sorted(part) for part in parts]
