"""Bootstrap over papers.

A resample is a row of weights: how often each paper was drawn. A statistic maps weights (B, n) to
values (B,), so that thousands of resamples are one matrix product, and all statistics are computed
on the same resampled papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from judge.statistics import LEVEL, Estimate, share

Floats = npt.NDArray[np.float64]
#: One number a paper.
Column = Sequence[float] | Floats
#: From weights (B, n) to values (B,).
Statistic = Callable[[Floats], Floats]

#: Resamples; at 5,000 a 95 % bound varies by about 0.02 of the interval's width between seeds.
RESAMPLES = 5000
SEED = 20_240_601
#: Elements of the weights in memory at a time: 16 MiB, and a statistic has several such arrays.
_BLOCK = 2_000_000


def mean(values: Column) -> Statistic:
    """The mean of one value per paper."""
    column = np.asarray(values, dtype=np.float64)
    return lambda weights: weights @ column / weights.sum(axis=1)


def over_groups(statistic: Statistic, groups: Sequence[int]) -> Statistic:
    """Turn a statistic of rows into one of papers: row i belongs to paper groups[i].

    Rows of one paper are not independent, so a resample contains all of them or none.
    """
    owner = np.asarray(groups, dtype=np.intp)
    return lambda weights: _in_blocks(lambda some: statistic(some[:, owner]), weights, len(owner))


def resample_weights(
    n: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    strata: Sequence[Hashable] | None = None,
) -> Floats:
    """Draw `resamples` samples of n papers with replacement, as read-only weights (B, n).

    With strata, such as (venue, decision), every resample has as many papers of each as the data.
    """
    return _drawn(n, resamples, seed, None if strata is None else tuple(strata))


@lru_cache(maxsize=4)  # the figures of one report resample the same papers
def _drawn(n: int, resamples: int, seed: int, strata: tuple[Hashable, ...] | None) -> Floats:
    generator = np.random.default_rng(seed)
    weights = np.zeros((resamples, n))
    for members in _groups(n, strata):
        size = len(members)
        weights[:, members] = generator.multinomial(size, np.full(size, 1 / size), size=resamples)
    weights.flags.writeable = False
    return weights


def bootstrap(
    statistic: Statistic,
    n: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    strata: Sequence[Hashable] | None = None,
    level: float = LEVEL,
) -> Estimate:
    """Estimate a statistic over n papers with its percentile interval.

    Percentiles and not BCa: on wins and ties of 100 papers BCa covers up to 97.6 %, percentiles
    93.8 to 96.6 %. Resamples in which the statistic is NaN are ignored; when it is NaN for the data
    itself, the interval is NaN too. A statistic that is the same in all resamples has an interval
    of width zero.
    """
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(statistic(np.ones((1, n)))[0])
    drawn = resample_weights(n, resamples=resamples, seed=seed, strata=strata)
    values = _in_blocks(statistic, drawn, n)
    values = values[np.isfinite(values)]
    if math.isnan(value) or not len(values):
        return Estimate(value, math.nan, math.nan, n)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), n)


def mean_share(values: Sequence[float], strata: Sequence[Hashable] | None = None) -> Estimate:
    """Estimate the mean of shares, such as 1 for a win, 0.5 for a tie and 0 for a loss.

    Wilson's interval is used where every paper has 0, or every paper 1: all resamples are equal.
    """
    if set(values) in ({0.0}, {1.0}):
        return share(round(sum(values)), len(values))
    return bootstrap(mean(values), len(values), strata=strata)


def _in_blocks(statistic: Statistic, weights: Floats, width: int) -> Floats:
    """Apply a statistic that needs `width` numbers per resample to a few resamples at a time."""
    rows = max(1, _BLOCK // max(width, 1))
    return np.concatenate(
        [statistic(weights[start : start + rows]) for start in range(0, len(weights), rows)]
    )


def _groups(n: int, strata: Sequence[Hashable] | None) -> list[list[int]]:
    if strata is None:
        return [list(range(n))]
    if len(strata) != n:
        raise ValueError(f"{len(strata)} strata for {n} papers")
    groups: dict[Hashable, list[int]] = {}
    for index, stratum in enumerate(strata):
        groups.setdefault(stratum, []).append(index)
    return list(groups.values())
