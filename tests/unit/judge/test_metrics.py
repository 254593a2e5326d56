"""Overlap, rating and style metrics: their definitions, bounds and worked figures."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from judge import overlap, ratings
from judge.overlap import METRICS, Overlap
from judge.ratings import RatedPaper, decision_scores, rating_scores
from judge.style import longest_common_subsequence, rouge


@st.composite
def overlaps(draw: st.DrawFn) -> Overlap:
    n_reference, n_generated = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    hits = draw(st.integers(0, n_reference)), draw(st.integers(0, n_generated))
    return Overlap(n_reference, n_generated, *hits, draw(st.integers(0, min(hits))))


@given(overlaps())
def test_metrics_lie_between_0_and_1_and_keep_their_order(overlap: Overlap) -> None:
    values = {name: metric(overlap) for name, metric in METRICS.items()}
    assert all(0 <= value <= 1 for value in values.values())
    assert values["jaccard"] <= values["dice"] <= values["szymkiewicz_simpson"] + 1e-12
    low, high = sorted((values["recall"], values["precision"]))
    assert low <= values["f1"] + 1e-12
    assert values["f1"] <= high + 1e-12


@given(overlaps())
def test_swapping_the_reviews_swaps_recall_and_precision_and_nothing_else(o: Overlap) -> None:
    swapped = Overlap(o.n_generated, o.n_reference, o.hits_generated, o.hits_reference, o.n_pairs)
    assert overlap.recall(o) == overlap.precision(swapped)
    for name in ("f1", "jaccard", "dice", "szymkiewicz_simpson", "pseudo_jaccard"):
        assert METRICS[name](o) == pytest.approx(METRICS[name](swapped))


@given(st.integers(1, 20))
def test_a_review_held_against_itself_has_every_metric_at_1(n: int) -> None:
    assert {metric(Overlap(n, n, n, n, n)) for metric in METRICS.values()} == {1.0}


def test_metrics_by_hand() -> None:
    # 4 human points, 6 generated; 2 human ones are hit by 3 generated ones.
    overlap = Overlap(4, 6, 2, 3, 2)
    assert overlap.recall(overlap) == 1 / 2
    assert overlap.precision(overlap) == 1 / 2
    assert overlap.jaccard(overlap) == 2 / 8
    assert overlap.dice(overlap) == 4 / 10
    assert overlap.szymkiewicz_simpson(overlap) == 2 / 4
    assert overlap.pseudo_jaccard(overlap) == 2.5 / 7.5


def test_counts_that_cannot_be_are_refused() -> None:
    for counts in ((2, 2, 3, 1, 1), (2, 2, 1, 3, 1), (2, 2, 1, 2, 2), (2, 2, 1, 1, -1)):
        with pytest.raises(ValueError, match="cannot be"):
            Overlap(*counts)


def test_a_reference_review_without_points_does_not_pull_the_mean_down() -> None:
    paper = [Overlap(2, 4, 1, 1, 1), Overlap(0, 4, 0, 0, 0)]
    assert overlap.over_reviewers(overlap.recall, paper) == 0.5
    assert math.isnan(overlap.over_reviewers(overlap.recall, paper[1:]))


papers = st.lists(
    st.builds(
        RatedPaper,
        st.none() | st.integers(1, 10),
        st.lists(st.integers(1, 10), min_size=1, max_size=4).map(tuple),
    ),
    min_size=1,
    max_size=12,
)


@given(papers)
@settings(max_examples=50)
def test_a_missing_rating_is_counted_and_never_helps(rated: list[RatedPaper]) -> None:
    as_is, worst = (rating_scores(x) for x in (rated, ratings.with_worst_ratings(rated, 1, 10)))
    assert as_is.n == worst.n == len(rated)
    assert as_is.missing == sum(paper.predicted is None for paper in rated)
    assert worst.missing == 0
    if as_is.missing < as_is.n:
        total = as_is.mae * (as_is.n - as_is.missing)
        assert worst.mae >= total / as_is.n - 1e-9


@given(papers)
@settings(max_examples=50)
def test_pairs_are_ordered_as_counted_by_hand(rated: list[RatedPaper]) -> None:
    told = [(p.predicted, p.human_mean) for p in rated if p.predicted is not None]
    found = ratings.pairwise_order([p for p, _ in told], [h for _, h in told])
    credit = []
    for (p1, h1), (p2, h2) in itertools.combinations(told, 2):
        if h1 != h2:
            credit.append(0.5 if p1 == p2 else float((p1 > p2) == (h1 > h2)))
    assert math.isnan(found) if not credit else found == pytest.approx(sum(credit) / len(credit))


def test_rating_scores_by_hand() -> None:
    found = rating_scores(
        [
            RatedPaper(10, (10, 8)),
            RatedPaper(6, (3,)),
            RatedPaper(6, (6, 6)),
            RatedPaper(None, (1,)),
        ]
    )
    assert (found.n, found.missing) == (4, 1)
    assert (found.mae, found.mse) == (pytest.approx(4 / 3), pytest.approx(10 / 3))
    assert found.exact == pytest.approx(2 / 3)
    assert found.spearman == pytest.approx(stats.spearmanr([10, 6, 6], [9, 3, 6]).statistic)
    assert found.pairwise == pytest.approx(2.5 / 3)
    assert found.modal_share == pytest.approx(2 / 3)


def test_the_human_baseline_holds_each_reviewer_against_the_others() -> None:
    held = ratings.human_baseline([RatedPaper(1, (3, 5, 8)), RatedPaper(1, (4,))])
    assert [(p.predicted, p.human_mean) for p in held] == [(3, 6.5), (5, 5.5), (8, 4)]


def test_decisions_by_hand_with_the_missing_one_as_missing_and_as_wrong() -> None:
    predicted, accepted = [True, True, False, None], [True, False, False, True]
    found = decision_scores(predicted, accepted)
    assert (found.n, found.missing, found.accuracy) == (4, 1, pytest.approx(2 / 3))
    assert (found.false_positive_rate, found.false_negative_rate) == (0.5, 0)
    assert found.balanced_accuracy == 0.75
    assert found.macro_f1 == pytest.approx(2 / 3)
    worst = decision_scores(ratings.with_worst_decisions(predicted, accepted), accepted)
    assert (worst.missing, worst.accuracy, worst.false_negative_rate) == (0, 0.5, 0.5)
    assert ratings.decision_auc([8, 6, 3, 6], accepted) == pytest.approx(3.5 / 4)


words = st.lists(st.sampled_from("abcd"), max_size=9)


@given(words, words)
@settings(max_examples=60)
def test_the_longest_common_subsequence_is_that_of_the_plain_recursion(
    a: list[str], b: list[str]
) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, j in itertools.product(range(len(a)), range(len(b))):
        same = table[i][j] + 1 if a[i] == b[j] else 0
        table[i + 1][j + 1] = max(same, table[i][j + 1], table[i + 1][j])
    assert longest_common_subsequence(a, b) == table[-1][-1]


def test_rouge_by_hand() -> None:
    found = rouge("Police killed the gunman", "police kill the gunman!")
    assert (found.rouge_1, found.rouge_2, found.rouge_l) == pytest.approx((3 / 4, 1 / 3, 3 / 4))
    assert rouge("", "words").rouge_l == 0
