"""Agreement of two judges, rankings or raters: Cohen's kappa, Spearman's rho and AUC.

Each measure is a `judge.bootstrap.Statistic`, so that its interval comes from resampled papers; a
row of weight 2 counts as two rows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from judge.bootstrap import Column, Floats, Statistic


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> Statistic:
    """Agreement of two judges beyond chance (Cohen 1960); NaN when chance explains everything."""
    labels = {label: index for index, label in enumerate(dict.fromkeys([*a, *b]))}
    size = len(labels)
    first, second = (_one_hot([labels[label] for label in side], size) for side in (a, b))
    together = (first[:, :, None] * second[:, None, :]).reshape(len(first), size * size)

    def value(weights: Floats) -> Floats:
        total = weights.sum(axis=1)
        table = (weights @ together / total[:, None]).reshape(-1, size, size)
        observed = np.trace(table, axis1=1, axis2=2)
        expected = (table.sum(axis=1) * table.sum(axis=2)).sum(axis=1)
        return _beyond_chance(observed, expected)

    return value


def spearman(x: Column, y: Column) -> Statistic:
    """Rank correlation with mid-ranks for ties; NaN when one side does not vary."""
    ranks_x, ranks_y = _mid_ranks(x), _mid_ranks(y)

    def value(weights: Floats) -> Floats:
        return _pearson(ranks_x(weights), ranks_y(weights), weights)

    return value


def auc(scores: Column, positive: Sequence[bool]) -> Statistic:
    """Area under the ROC curve: the probability that a positive scores above a negative, ties half.

    NaN where a resample has no positive or no negative.
    """
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    is_positive = np.asarray(positive, dtype=np.float64)[order]
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) > 0])

    def value(weights: Floats) -> Floats:
        rows = weights[:, order]
        up = np.add.reduceat(rows * is_positive, starts, axis=1)
        down = np.add.reduceat(rows * (1 - is_positive), starts, axis=1)
        under = np.cumsum(down, axis=1) - 0.5 * down
        return _divide((up * under).sum(axis=1), up.sum(axis=1) * down.sum(axis=1))

    return value


def _one_hot(labels: Sequence[int], size: int) -> Floats:
    return np.eye(size)[np.asarray(labels, dtype=np.intp)]


def _beyond_chance(observed: Floats, expected: Floats) -> Floats:
    return _divide(observed - expected, 1 - expected)


def _divide(above: Floats, below: Floats) -> Floats:
    # Sums of many shares that should be 0 may be 1e-17.
    quotient: Floats = np.full_like(above, np.nan)
    np.divide(above, below, out=quotient, where=below > 1e-12)
    return quotient


def _mid_ranks(values: Column) -> Callable[[Floats], Floats]:
    """A function from weights (B, n) to the rows' mid-ranks (B, n), up to a constant."""
    different, place = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(different)))

    def ranks(weights: Floats) -> Floats:
        sizes = np.add.reduceat(weights[:, order], starts, axis=1)
        middles: Floats = np.cumsum(sizes, axis=1) - sizes / 2
        return middles[:, place]

    return ranks


def _pearson(x: Floats, y: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=1, keepdims=True)
    x = x - (x * weights).sum(axis=1, keepdims=True) / total
    y = y - (y * weights).sum(axis=1, keepdims=True) / total
    covariance = (weights * x * y).sum(axis=1)
    spread = np.sqrt((weights * x * x).sum(axis=1) * (weights * y * y).sum(axis=1))
    return _divide(covariance, spread)
