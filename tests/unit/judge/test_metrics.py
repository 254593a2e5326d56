"""Overlap metrics: definitions, bounds and worked examples."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge import overlap as overlap_measures
from judge.overlap import METRICS, Overlap


@st.composite
def overlaps(draw: st.DrawFn) -> Overlap:
    n_reference, n_generated = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    hits = draw(st.integers(0, n_reference)), draw(st.integers(0, n_generated))
    return Overlap(n_reference, n_generated, *hits, draw(st.integers(0, min(hits))))


@given(overlaps())
def test_metrics_are_between_0_and_1_and_ordered(overlap: Overlap) -> None:
    values = {name: metric(overlap) for name, metric in METRICS.items()}
    assert all(0 <= value <= 1 for value in values.values())
    assert values["jaccard"] <= values["dice"] <= values["szymkiewicz_simpson"] + 1e-12
    low, high = sorted((values["recall"], values["precision"]))
    assert low <= values["f1"] + 1e-12
    assert values["f1"] <= high + 1e-12


@given(overlaps())
def test_swapping_the_reviews_swaps_recall_and_precision_and_nothing_else(o: Overlap) -> None:
    swapped = Overlap(o.n_generated, o.n_reference, o.hits_generated, o.hits_reference, o.n_pairs)
    assert overlap_measures.recall(o) == overlap_measures.precision(swapped)
    for name in ("f1", "jaccard", "dice", "szymkiewicz_simpson", "pseudo_jaccard"):
        assert METRICS[name](o) == pytest.approx(METRICS[name](swapped))


@given(st.integers(1, 20))
def test_review_compared_with_itself_has_all_metrics_at_1(n: int) -> None:
    assert {metric(Overlap(n, n, n, n, n)) for metric in METRICS.values()} == {1.0}


def test_metrics_by_hand() -> None:
    # 4 human points, 6 generated; 2 human ones are hit by 3 generated ones.
    overlap = Overlap(4, 6, 2, 3, 2)
    assert overlap_measures.recall(overlap) == 1 / 2
    assert overlap_measures.precision(overlap) == 1 / 2
    assert overlap_measures.jaccard(overlap) == 2 / 8
    assert overlap_measures.dice(overlap) == 4 / 10
    assert overlap_measures.szymkiewicz_simpson(overlap) == 2 / 4
    assert overlap_measures.pseudo_jaccard(overlap) == 2.5 / 7.5


def test_impossible_counts_are_refused() -> None:
    for counts in ((2, 2, 3, 1, 1), (2, 2, 1, 3, 1), (2, 2, 1, 2, 2), (2, 2, 1, 1, -1)):
        with pytest.raises(ValueError, match="is inconsistent"):
            Overlap(*counts)


def test_a_reference_review_without_points_does_not_pull_the_mean_down() -> None:
    paper = [Overlap(2, 4, 1, 1, 1), Overlap(0, 4, 0, 0, 0)]
    assert overlap_measures.over_reviewers(overlap_measures.recall, paper) == 0.5
    assert math.isnan(overlap_measures.over_reviewers(overlap_measures.recall, paper[1:]))
