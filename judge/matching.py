"""Matching of the points of two reviews: pairs, one-to-one assignment, and counts.

A matcher gives pairs with a similarity from 0 to 10; this module decides which of them count.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from judge.cosine import Similarities
from judge.overlap import Overlap

#: Cosine from which on two points count as the same: where people's reviews win most often against
#: other papers' reviews on training papers, as `python -P -m judge.validate strangers` chooses it
#: (docs/judge.md). F1 on APE's pairs (Cheng et al., EMNLP 2020) is nearly flat about it.
THRESHOLD = 0.39
#: Pairs this much below the threshold are kept as near misses.
NEAR = 0.1
#: Logistic curve from a cosine to how likely people are to call two points the same: where it is a
#: half, and its slope, fitted on one half of APE's papers (`python -P -m judge.validate ape`).
MIDPOINT = 0.57
SLOPE = 8.5

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PointPair:
    """A reference point and a generated one, by their indices in their lists.

    `weight` is the probability that the two are the same; 1 from models that give none.
    """

    reference: int
    generated: int
    similarity: float
    matched: bool
    votes: int = 1
    relatedness: str | None = None
    specificity: str | None = None
    rationale: str = ""
    weight: float = 1.0


def one_to_one(similarity: Similarities, threshold: float) -> list[tuple[int, int]]:
    """Pairs (row, column) of at least `threshold`, no row or column twice, of greatest sum."""
    if not similarity.size:
        return []
    gains = np.where(similarity >= threshold, similarity, 0.0)
    rows, columns = linear_sum_assignment(gains, maximize=True)
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if similarity[row, column] >= threshold
    ]


def likelihood(cosine: float) -> float:
    """Probability that people call two points of this cosine the same (Platt 1999)."""
    return 1.0 / (1.0 + math.exp(-SLOPE * (cosine - MIDPOINT)))


def embedding_pairs(similarity: Similarities, threshold: float = THRESHOLD) -> list[PointPair]:
    """Pairs of a matrix (reference, generated) of cosines: the one-to-one matches, near misses, and
    pairs that lost to a better one."""
    chosen = set(one_to_one(similarity, threshold))
    near = np.argwhere(similarity >= max(threshold - NEAR, 0.0))
    return [
        PointPair(
            int(row),
            int(column),
            similarity=round(10.0 * float(similarity[row, column]), 4),
            matched=(int(row), int(column)) in chosen,
            weight=likelihood(float(similarity[row, column])),
        )
        for row, column in near
    ]


def restrict(
    pairs: Iterable[PointPair], generated: Collection[int], *, assign: float | None
) -> list[tuple[int, int]]:
    """The matches when only these generated points are kept.

    With `assign`, a threshold from 0 to 10, points are assigned one to one again, since the partner
    of a removed point may match another. Without it, the matcher's own matches are used.
    """
    kept = [pair for pair in pairs if pair.generated in generated]
    if assign is None:
        return [(pair.reference, pair.generated) for pair in kept if pair.matched]
    return _assign([pair for pair in kept if pair.similarity >= assign])


def weight_matrix(
    pairs: Iterable[PointPair], n_reference: int, n_generated: int, *, assign: float | None
) -> Weights:
    """Weights of pairs as a matrix (reference, generated), 0 where there is none.

    Where points are assigned one to one near misses count too, by their weight.
    """
    found = np.zeros((n_reference, n_generated))
    for pair in pairs:
        if assign is not None or pair.matched:
            found[pair.reference, pair.generated] = pair.weight
    return found


def hit_weights(weights: Weights, *, one_to_one: bool) -> Weights:
    """Probability that each reference point is hit: by its partner in the one-to-one assignment of
    greatest sum, or by the best of all generated points."""
    if not one_to_one:
        best: Weights = weights.max(axis=1, initial=0.0)
        return best
    found = np.zeros(len(weights))
    rows, columns = linear_sum_assignment(weights, maximize=True)
    found[rows] = weights[rows, columns]
    return found


def _assign(pairs: Sequence[PointPair]) -> list[tuple[int, int]]:
    references = sorted({pair.reference for pair in pairs})
    generated = sorted({pair.generated for pair in pairs})
    if len(references) == len(generated) == len(pairs):
        return sorted((pair.reference, pair.generated) for pair in pairs)
    rows = {reference: row for row, reference in enumerate(references)}
    columns = {place: column for column, place in enumerate(generated)}
    matrix = np.zeros((len(references), len(generated)), dtype=np.float32)
    for pair in pairs:
        matrix[rows[pair.reference], columns[pair.generated]] = pair.similarity
    chosen = one_to_one(matrix, float(np.finfo(np.float32).tiny))
    return [(references[row], generated[column]) for row, column in chosen]


def count(matches: Collection[tuple[int, int]], n_reference: int, n_generated: int) -> Overlap:
    """Count the matches (reference, generated) between lists of these lengths."""
    return Overlap(
        n_reference=n_reference,
        n_generated=n_generated,
        hits_reference=len({reference for reference, _ in matches}),
        hits_generated=len({generated for _, generated in matches}),
        # With equal weights the greatest sum has the most pairs.
        n_pairs=len(_assign([PointPair(*match, 1.0, True) for match in set(matches)])),
    )
