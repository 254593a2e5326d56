"""How well similarities separate pairs that say the same from others.

The threshold is chosen on one half of the papers and evaluated on the other. A paper's half depends
on the hash of its id alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from errors import UserError
from judge.agreement import auc, cohen_kappa, spearman
from judge.bootstrap import Floats, Statistic, bootstrap, over_groups
from judge.statistics import Estimate


@dataclass(frozen=True)
class LabelledPairs:
    """Pairs with their similarity, whether people call them the same, and their paper."""

    scores: Floats
    same: tuple[bool, ...]
    papers: tuple[str, ...]


@dataclass(frozen=True)
class PairFigures:
    """Figures over `n` pairs of `papers` papers, `n_same` of the pairs being the same.

    `auc`, the chance that a pair that is the same scores above one that is not, and `spearman`, of
    score and label, need no threshold and are over all pairs. `kappa`, agreement with the labels,
    and `f1` are at the threshold, over the `n_reported` pairs of the half it was not chosen on.
    `midpoint` and `slope` are those of the logistic curve from score to probability on the first
    half, `miscalibration` is its expected calibration error on the other.
    """

    n: int
    n_same: int
    papers: int
    auc: Estimate
    spearman: Estimate
    threshold: float
    n_reported: int
    kappa: Estimate
    f1: float
    midpoint: float
    slope: float
    miscalibration: float


def pair_figures(pairs: LabelledPairs) -> PairFigures:
    """Choose the threshold on one half, evaluate it on the other. UserError for an empty half."""
    chosen, reported = (_half(pairs, which) for which in (False, True))
    for half in (chosen, reported):
        if len(set(half.same)) < 2:
            raise UserError(
                "The file has too few papers: each half needs pairs that match, and others."
            )
    threshold = best_threshold(chosen.scores, chosen.same)
    said = (reported.scores >= threshold).tolist()
    labels = np.array(pairs.same, dtype=float)
    midpoint, slope = likelihood_curve(chosen.scores, chosen.same)
    likely = expit(slope * (reported.scores - midpoint))
    return PairFigures(
        n=len(pairs.same),
        n_same=sum(pairs.same),
        papers=len(set(pairs.papers)),
        auc=_over_papers(auc(pairs.scores, pairs.same), pairs),
        spearman=_over_papers(spearman(pairs.scores, labels), pairs),
        threshold=threshold,
        n_reported=len(reported.same),
        kappa=_over_papers(cohen_kappa(said, reported.same), reported),
        f1=float(_f1_at(reported.scores, reported.same, np.array([threshold]))[0]),
        midpoint=midpoint,
        slope=slope,
        miscalibration=miscalibration(likely, reported.same),
    )


def _over_papers(statistic: Statistic, pairs: LabelledPairs) -> Estimate:
    places = {paper: place for place, paper in enumerate(dict.fromkeys(pairs.papers))}
    groups = [places[paper] for paper in pairs.papers]
    return bootstrap(over_groups(statistic, groups), len(places))


def is_reported(paper: str) -> bool:
    """Whether a paper belongs to the half that figures are reported on."""
    return bool(hashlib.sha256(paper.encode("utf-8", "replace")).digest()[0] & 1)


def best_threshold(scores: Floats, same: Sequence[bool]) -> float:
    """The score at which F1 is highest, to two decimals: finer differences are noise."""
    candidates = np.unique(np.round(scores, 2))
    return float(candidates[int(np.argmax(_f1_at(scores, same, candidates)))])


def likelihood_curve(scores: Floats, same: Sequence[bool]) -> tuple[float, float]:
    """Midpoint and slope of the logistic curve of greatest likelihood (Platt 1999).

    The labels are smoothed as in Platt's paper, so that the slope is finite for separable ones too.
    """
    n_same = sum(same)
    yes, no = (n_same + 1) / (n_same + 2), 1 / (len(same) - n_same + 2)
    target = np.where(np.asarray(same, dtype=bool), yes, no)

    def loss(line: Floats) -> float:
        logit = line[0] * scores + line[1]
        return float(np.mean(np.logaddexp(0.0, logit) - target * logit))

    slope, offset = minimize(loss, np.zeros(2)).x
    return float(-offset / slope), float(slope)


def miscalibration(likely: Floats, same: Sequence[bool]) -> float:
    """Expected calibration error over ten bins (Naeini and others 2015)."""
    bins = np.minimum((10 * likely).astype(int), 9)
    excess = np.bincount(bins, likely - np.asarray(same, dtype=float), minlength=10)
    return float(np.abs(excess).sum() / len(likely))


def _half(pairs: LabelledPairs, reported: bool) -> LabelledPairs:
    kept = [i for i, paper in enumerate(pairs.papers) if is_reported(paper) is reported]
    return LabelledPairs(
        scores=pairs.scores[kept],
        same=tuple(pairs.same[i] for i in kept),
        papers=tuple(pairs.papers[i] for i in kept),
    )


def _f1_at(scores: Floats, same: Sequence[bool], thresholds: Floats) -> Floats:
    is_same = np.asarray(same, dtype=bool)
    order = np.sort(scores)
    order_same = np.sort(scores[is_same])
    said = len(order) - np.searchsorted(order, thresholds)
    hits = len(order_same) - np.searchsorted(order_same, thresholds)
    f1: Floats = 2 * hits / np.maximum(said + is_same.sum(), 1)
    return f1
