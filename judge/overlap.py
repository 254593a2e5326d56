"""Set metrics of the overlap of two reviews' points, from counts.

Definitions: recall, precision and pseudo-Jaccard as MARG (D'Arcy and others 2024) counts them, on
many-to-many matches; Jaccard, Dice and Szymkiewicz-Simpson as Liang and others (2023) do, on a
one-to-one matching. With nothing to match every metric is 0, as in MARG's published results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Overlap:
    """Counts of a generated review compared with a reference.

    `hits_reference` of the reference's points have a match, `hits_generated` of the generated
    ones; `n_pairs` is the size of the largest one-to-one matching.
    """

    n_reference: int
    n_generated: int
    hits_reference: int
    hits_generated: int
    n_pairs: int

    def __post_init__(self) -> None:
        if not (
            0 <= self.n_pairs <= min(self.hits_reference, self.hits_generated)
            and self.hits_reference <= self.n_reference
            and self.hits_generated <= self.n_generated
        ):
            raise ValueError(f"{self} is inconsistent: hits exceed points, or pairs exceed hits")


def recall(overlap: Overlap) -> float:
    """Share of the reference's points that the generated review makes."""
    return _share(overlap.hits_reference, overlap.n_reference)


def precision(overlap: Overlap) -> float:
    """Share of the generated points that the reference makes; Liang's hit rate."""
    return _share(overlap.hits_generated, overlap.n_generated)


def f1(overlap: Overlap) -> float:
    """Harmonic mean of recall and precision."""
    both = recall(overlap) + precision(overlap)
    return 2 * recall(overlap) * precision(overlap) / both if both else 0.0


def jaccard(overlap: Overlap) -> float:
    """Pairs over all different points of the two reviews."""
    return _share(overlap.n_pairs, overlap.n_reference + overlap.n_generated - overlap.n_pairs)


def dice(overlap: Overlap) -> float:
    """Twice the pairs over all points of the two reviews."""
    return _share(2 * overlap.n_pairs, overlap.n_reference + overlap.n_generated)


def szymkiewicz_simpson(overlap: Overlap) -> float:
    """Pairs over the points of the shorter review."""
    return _share(overlap.n_pairs, min(overlap.n_reference, overlap.n_generated))


def pseudo_jaccard(overlap: Overlap) -> float:
    """MARG's Jaccard for many-to-many matches: the mean of both sides' hits is the intersection."""
    hits = (overlap.hits_reference + overlap.hits_generated) / 2
    return _share(hits, overlap.n_reference + overlap.n_generated - hits)


Metric = Callable[[Overlap], float]
METRICS: Mapping[str, Metric] = {
    "recall": recall,
    "precision": precision,
    "f1": f1,
    "jaccard": jaccard,
    "dice": dice,
    "szymkiewicz_simpson": szymkiewicz_simpson,
    "pseudo_jaccard": pseudo_jaccard,
}


def over_reviewers(metric: Metric, overlaps: Sequence[Overlap]) -> float:
    """Average a paper's metric over its reference reviews; NaN when none of them has a point."""
    values = [metric(overlap) for overlap in overlaps if overlap.n_reference]
    return sum(values) / len(values) if values else math.nan


def some_reviewer_rate(union: Overlap) -> float:
    """Share of the generated points that at least one reviewer makes."""
    return precision(union)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
