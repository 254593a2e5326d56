"""How far predicted ratings and decisions agree with people's; knows no review text.

A review without a rating is counted as missing, never dropped in silence: every figure can be had
over those that are there and with the worst rating put in for those that are not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import ks_2samp

from judge.agreement import auc, kendall, spearman
from judge.bootstrap import Column, Statistic


@dataclass(frozen=True)
class RatedPaper:
    """A predicted rating, None when missing, and the ratings that people gave, at least one."""

    predicted: float | None
    human: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.human:
            raise ValueError("a paper without human ratings has nothing to be held against")

    @property
    def human_mean(self) -> float:
        """Mean of the human ratings."""
        return sum(self.human) / len(self.human)


@dataclass(frozen=True)
class RatingScores:
    """Agreement over `n` papers, `missing` of them without a prediction.

    `exact`: share equal to at least one human rating. `pairwise`: share of paper pairs with
    different human means that are put in the same order, equal predictions counting half. `ks`:
    Kolmogorov-Smirnov distance between predicted and human ratings. NaN where undefined.
    """

    n: int
    missing: int
    mae: float
    mse: float
    exact: float
    spearman: float
    kendall: float
    pairwise: float
    mean: float
    deviation: float
    modal_share: float
    ks: float


@dataclass(frozen=True)
class DecisionScores:
    """Agreement of predicted with actual acceptance; rates are NaN where undefined."""

    n: int
    missing: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    false_positive_rate: float
    false_negative_rate: float


def rating_scores(papers: Sequence[RatedPaper]) -> RatingScores:
    """Score the papers that have a prediction, and count those that have none."""
    rated = [paper for paper in papers if paper.predicted is not None]
    predicted = np.array([paper.predicted for paper in rated], dtype=float)
    human = np.array([paper.human_mean for paper in rated], dtype=float)
    if not rated:
        return RatingScores(len(papers), len(papers), *[math.nan] * 10)
    away = np.abs(predicted - human)
    return RatingScores(
        n=len(papers),
        missing=len(papers) - len(rated),
        mae=float(away.mean()),
        mse=float((away**2).mean()),
        exact=sum(paper.predicted in paper.human for paper in rated) / len(rated),
        spearman=_once(spearman(predicted, human), len(rated)),
        kendall=_once(kendall(predicted, human), len(rated)),
        pairwise=pairwise_order(predicted, human),
        mean=float(predicted.mean()),
        deviation=float(predicted.std()),
        modal_share=max(Counter(predicted.tolist()).values()) / len(rated),
        ks=float(ks_2samp(predicted, [x for paper in rated for x in paper.human]).statistic),
    )


def with_worst_ratings(papers: Sequence[RatedPaper], low: float, high: float) -> list[RatedPaper]:
    """Put the end of the scale that is farther from the human mean where a rating is missing."""
    return [
        paper
        if paper.predicted is not None
        else replace(paper, predicted=high if paper.human_mean < (low + high) / 2 else low)
        for paper in papers
    ]


def constant_baseline(papers: Sequence[RatedPaper], rating: float) -> list[RatedPaper]:
    """Predict one rating for every paper, such as the training set's mean."""
    return [replace(paper, predicted=rating) for paper in papers]


def human_baseline(papers: Sequence[RatedPaper]) -> list[RatedPaper]:
    """Hold each human rating against the mean of the same paper's others; lone ones go."""
    return [
        RatedPaper(rating, paper.human[:index] + paper.human[index + 1 :])
        for paper in papers
        for index, rating in enumerate(paper.human)
        if len(paper.human) > 1
    ]


def pairwise_order(predicted: Column, human: Column) -> float:
    """Share of pairs with different human means that are ordered alike; predicted ties are half."""
    ours = np.sign(np.subtract.outer(predicted, predicted))
    theirs = np.sign(np.subtract.outer(human, human))
    differ = theirs != 0
    agreed = (ours * theirs)[differ]
    return float((agreed + 1).mean() / 2) if differ.any() else math.nan


def decision_scores(predicted: Sequence[bool | None], accepted: Sequence[bool]) -> DecisionScores:
    """Score predicted acceptance where there is one, and count where there is none."""
    told = [(p, a) for p, a in zip(predicted, accepted, strict=True) if p is not None]
    tally = Counter(told)
    hit, false_alarm = tally[True, True], tally[True, False]
    passed, missed = tally[False, False], tally[False, True]
    fpr, fnr = _ratio(false_alarm, false_alarm + passed), _ratio(missed, missed + hit)
    return DecisionScores(
        n=len(accepted),
        missing=len(accepted) - len(told),
        accuracy=_ratio(hit + passed, len(told)),
        balanced_accuracy=1 - (fpr + fnr) / 2,
        macro_f1=(
            _ratio(2 * hit, 2 * hit + false_alarm + missed)
            + _ratio(2 * passed, 2 * passed + false_alarm + missed)
        )
        / 2,
        false_positive_rate=fpr,
        false_negative_rate=fnr,
    )


def with_worst_decisions(
    predicted: Sequence[bool | None], accepted: Sequence[bool]
) -> list[bool | None]:
    """Put the wrong decision where one is missing."""
    return [not a if p is None else p for p, a in zip(predicted, accepted, strict=True)]


def decision_auc(ratings: Sequence[float], accepted: Sequence[bool]) -> float:
    """Chance that an accepted paper is rated above a rejected one, ties half."""
    return _once(auc(ratings, accepted), len(ratings))


def _once(statistic: Statistic, n: int) -> float:
    return float(statistic(np.ones((1, n)))[0]) if n else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
