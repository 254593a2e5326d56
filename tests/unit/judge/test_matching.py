"""Assignment, counts and match-PK."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from db.points import StoredPoint
from judge.match_counts import MatchedReview, counts_of, verdicts
from judge.matching import (
    MIDPOINT,
    PointPair,
    count,
    embedding_pairs,
    hit_weights,
    likelihood,
    one_to_one,
    restrict,
    weight_matrix,
)

MATRICES = st.integers(0, 4).flatmap(
    lambda n: st.integers(0, 4).flatmap(
        lambda m: st.lists(
            st.lists(st.integers(0, 100), min_size=m, max_size=m), min_size=n, max_size=n
        ).map(lambda rows: np.array(rows, dtype=np.float32).reshape(n, m) / 100)
    )
)


def best_sum(matrix: np.ndarray, threshold: float) -> float:
    """The largest sum of a one-to-one choice of entries above the threshold, by brute force."""
    n, m = matrix.shape
    if n > m:
        return best_sum(matrix.T, threshold)
    gains = np.where(matrix >= threshold, matrix, 0)
    return max(
        (sum(float(gains[i, j]) for i, j in enumerate(p)) for p in permutations(range(m), n)),
        default=0.0,
    )


@settings(max_examples=60)
@given(MATRICES, st.sampled_from([0.2, 0.5, 0.8]))
def test_assignment_is_optimal(matrix: np.ndarray, threshold: float) -> None:
    found = one_to_one(matrix, threshold)
    assert len({i for i, _ in found}) == len({j for _, j in found}) == len(found)
    assert all(matrix[i, j] >= threshold for i, j in found)
    total = sum(float(matrix[i, j]) for i, j in found)
    assert abs(total - best_sum(matrix, threshold)) < 1e-5


def test_near_misses_and_competitors_of_a_match_are_kept() -> None:
    pairs = embedding_pairs(np.array([[0.9, 0.6], [0.45, 0.1]], dtype=np.float32), 0.5)
    assert [(p.reference, p.generated, p.similarity, p.matched) for p in pairs] == [
        (0, 0, 9.0, True),
        (0, 1, 6.0, False),
        (1, 0, 4.5, False),
    ]


def test_point_is_matched_when_a_better_competitor_is_cut() -> None:
    pairs = embedding_pairs(np.array([[0.9, 0.6]], dtype=np.float32), 0.5)
    assert restrict(pairs, {1}, assign=5.0) == [(0, 1)]
    # Matches that a model decided are kept.
    assert restrict(pairs, {1}, assign=None) == []


def test_weight_of_a_pair_is_its_probability_of_a_human_match() -> None:
    cosines = np.linspace(-1, 1, 41, dtype=np.float32)
    likely = [likelihood(float(cosine)) for cosine in cosines]
    assert likely == sorted(likely)
    assert 0 < likely[0] < 0.01 < 0.95 < likely[-1] < 1
    assert likelihood(MIDPOINT) == 0.5
    (pair,) = embedding_pairs(np.array([[0.6]], dtype=np.float32))
    assert pair.weight == likelihood(float(np.float32(0.6)))


@settings(max_examples=60)
@given(MATRICES)
def test_points_are_hit_by_their_best_partners(matrix: np.ndarray) -> None:
    n, m = matrix.shape
    pairs = [
        PointPair(i, j, 0.0, True, weight=float(matrix[i, j])) for i in range(n) for j in range(m)
    ]
    weights = weight_matrix(pairs, n, m, assign=5.0)
    alone = hit_weights(weights, one_to_one=True)
    shared = hit_weights(weights, one_to_one=False)
    assert abs(alone.sum() - best_sum(matrix, 0)) < 1e-5
    assert np.allclose(shared, matrix.max(axis=1, initial=0))
    assert alone.shape == shared.shape == (n,)
    assert (alone <= shared).all()


def test_unmatched_pairs_of_a_model_have_weight_zero() -> None:
    pairs = [PointPair(0, 0, 4.0, False), PointPair(1, 0, 8.0, True)]
    assert weight_matrix(pairs, 2, 1, assign=None).tolist() == [[0], [1]]
    assert weight_matrix(pairs, 2, 1, assign=5.0).tolist() == [[1], [1]]


def test_counts_of_many_to_many_matches() -> None:
    found = count([(0, 0), (0, 1), (1, 0), (2, 2)], n_reference=5, n_generated=4)
    assert (found.hits_reference, found.hits_generated, found.n_pairs) == (3, 3, 3)


def matched_review(
    review: int, hits: dict[int, int], n_points: int, n_reference: int = 6
) -> MatchedReview:
    """A review of `n_points` alternating aspects; `hits` maps its points to reference points."""
    points = [
        StoredPoint(100 * review + i, review, i, ("idea", "rejection")[i % 2], f"{i}")
        for i in range(n_points)
    ]
    reference = [StoredPoint(i, 9, i, None, f"{i}") for i in range(n_reference)]
    pairs = [PointPair(row, column, 9.0, True) for column, row in hits.items()]
    return MatchedReview(points, {9: reference}, {9: pairs}, assign=5.0, paper="p")


def test_more_hits_win_and_equal_counts_decide_at_equal_length() -> None:
    # Given a review that hits two points with eight items, and one that hits one with one item
    long, short = matched_review(1, {0: 0, 4: 1}, 8), matched_review(2, {0: 3}, 1)
    # When they are compared
    found = {(v.method, v.aspect): v for v in verdicts(long, short, ("idea", "rejection"))}
    # Then the long one wins by hits, but not at one item each
    raw, equal = found["match", None], found["match_equal", None]
    assert (raw.outcome, raw.a_hits, raw.b_hits, raw.a_items) == ("win", 2, 1, 8)
    assert (equal.a_items, equal.b_items, equal.b_hits) == (1, 1, 1)
    assert equal.a_hits == 2 / 8  # what one of its items hits on average
    # And under each aspect only its items count
    assert found["match", "rejection"].outcome == "tie"


def test_a_near_miss_decides_between_equal_hits() -> None:
    # Given two reviews that hit one point, of which one comes near a second
    plain, near = matched_review(1, {0: 0}, 2), matched_review(2, {0: 0}, 2)
    near = replace(near, pairs={9: [*near.pairs[9], PointPair(1, 1, 4.5, False, weight=0.2)]})
    found = {v.method: v for v in verdicts(plain, near, ())}
    # Then counted hits are equal, and expected ones are not
    assert (found["match"].outcome, found["match_equal"].outcome) == ("tie", "lose")
    assert (found["match_equal"].a_hits, found["match_equal"].b_hits) == (1.0, 1.2)


@settings(max_examples=40)
@given(st.dictionaries(st.integers(0, 7), st.integers(0, 5), max_size=6), st.integers(0, 8))
def test_expected_hits_are_the_counted_ones_where_nothing_is_cut(
    hits: dict[int, int], n: int
) -> None:
    made = matched_review(1, hits, 8)
    whole = made.expected_hits(made.points, 8)
    assert whole == made.union(made.points).hits_reference
    # The expected hits of one point are its share, and fewer points never have more hits.
    assert abs(made.expected_hits(made.points, 1) - len(hits) / 8) < 1e-6
    assert made.expected_hits(made.points, n) <= whole
    by_aspect = [made.expected_hits(made.points[i::2], 4) for i in (0, 1)]
    assert sum(by_aspect) >= whole


@settings(max_examples=40)
@given(st.dictionaries(st.integers(0, 7), st.integers(0, 5), max_size=6))
def test_a_review_ties_with_itself_in_every_way(hits: dict[int, int]) -> None:
    same = matched_review(1, hits, 8)
    assert {v.outcome for v in verdicts(same, same, ("idea", "rejection"))} == {"tie"}


def test_counts_are_given_for_each_reference_review_and_their_union() -> None:
    made = matched_review(1, {0: 0, 1: 1}, 4)
    two = MatchedReview(
        made.points,
        {9: made.references[9], 8: made.references[9]},
        {**made.pairs, 8: []},
        assign=5.0,
        paper="p",
    )
    found = counts_of(two, 2)
    assert set(found) == {"full", "equal"}
    assert found["full"][9].hits_reference == 2
    assert found["full"][8].hits_reference == 0
    assert (found["full"][None].n_reference, found["full"][None].hits_reference) == (12, 2)
    assert found["equal"][None].n_generated == 2
