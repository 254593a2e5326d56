"""The match-PK between reviews in FP8 and in exact arithmetic, pooled over samples of papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from db.comparison_records import ComparisonRecord
from db.schema_judging import HEADLINE
from judge.bootstrap import bootstrap, mean
from judge.statistics import Estimate
from judge.win_rates import WORTH


def pooled_score(records: Sequence[ComparisonRecord]) -> dict[str, Any]:
    """The PK score of a against b over comparisons of other samples, with its interval.

    A paper's score is the mean over its samples, since they are not independent; the bootstrap
    draws papers. Only papers that all comparisons have are counted.
    """
    outcomes = [_outcomes(record) for record in records]
    papers = sorted(set.intersection(*(set(each) for each in outcomes)))
    scores = [mean_worth([each[paper] for each in outcomes]) for paper in papers]
    counted = [each[paper] for each in outcomes for paper in papers]
    return {
        "papers": len(papers),
        "samples": len(records),
        **{outcome: counted.count(outcome) for outcome in WORTH},
        "score": _percent(bootstrap(mean(scores), len(scores))),
        "scores_of_samples": [
            round(100 * mean_worth([each[paper] for paper in papers]), 1) for each in outcomes
        ],
    }


def mean_worth(outcomes: Sequence[str]) -> float:
    """The mean of 1 for a win, 0.5 for a tie and 0 for a loss."""
    return sum(WORTH[outcome] for outcome in outcomes) / len(outcomes)


def _outcomes(record: ComparisonRecord) -> Mapping[str, str]:
    """The outcome of each paper, by its hash, at equal counts for whole reviews."""
    hashes = {paper.id: paper.sha256 for paper in record.papers}
    return {
        hashes[verdict.paper_id]: verdict.outcome
        for verdict in record.verdicts
        if verdict.method == HEADLINE and verdict.aspect is None
    }


def _percent(estimate: Estimate) -> list[float]:
    return [round(100 * value, 2) for value in (estimate.value, estimate.low, estimate.high)]
