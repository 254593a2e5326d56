"""Points of reviews: items, sentences of free texts, and the cut to equal numbers."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from db.points import ReviewText, StoredPoint
from judge.point_extraction import equal_cut, equal_cuts, points_of, sentences

FREE = """\
This paper proposes a new optimizer for sparse networks. The idea is interesting, and Sec. 3 \
explains it well (e.g. the proof of Theorem 2). I miss a comparison with Adam et al. and with SGD!

1. The ablation in Fig. 4 uses only a single random seed.
2. How does the method scale? It is not clear to me from the text.

- N/A
None.
"""


def test_a_free_text_gives_its_sentences_without_summary_and_markers() -> None:
    assert sentences(FREE) == [
        "The idea is interesting, and Sec. 3 explains it well (e.g. the proof of Theorem 2).",
        "I miss a comparison with Adam et al. and with SGD!",
        "The ablation in Fig. 4 uses only a single random seed.",
        "How does the method scale? It is not clear to me from the text.",
    ]


def test_items_are_points_and_an_empty_marker_is_none() -> None:
    items = (("idea", "New", "It is new."), ("other", "No related terms", "-"))
    (point,) = points_of(ReviewText(1, items, unplaced="", raw="..."))
    assert (point.aspect, point.text) == ("idea", "New: It is new.")


def test_empty_review_has_no_points() -> None:
    raw = "[Potential reasons for rejection]\n<No related terms> -\n"
    assert points_of(ReviewText(1, (), unplaced="", raw=raw)) == []


def test_a_text_that_is_mostly_in_no_item_counts_by_its_sentences() -> None:
    items = (("suggestions", "", "More seeds."),)
    found = points_of(ReviewText(1, items, unplaced=FREE, raw=FREE))
    assert len(found) == 4
    assert {point.aspect for point in found} == {None}


@settings(max_examples=40)
@given(st.text(max_size=300))
def test_any_text_can_be_cut_into_sentences(text: str) -> None:
    found = sentences(text)
    joined = "".join("".join(found).split())
    assert len(joined) <= len("".join(text.split()))


@settings(max_examples=40)
@given(n_points=st.integers(0, 12), n=st.integers(0, 14), paper=st.text(max_size=9))
def test_the_equal_cut_is_fixed_and_nested(n_points: int, n: int, paper: str) -> None:
    points = [StoredPoint(i, 1, i, None, f"point {i}") for i in range(n_points)]
    kept = equal_cut(points, n, paper)
    # Whatever the order of the list, the same points in the review's order...
    assert kept == equal_cut(points[::-1], n, paper)
    assert kept == sorted(kept, key=lambda point: point.position)
    assert len(kept) == min(n, n_points)
    # ...and a shorter cut is part of a longer one.
    assert set(equal_cut(points, max(n - 1, 0), paper)) <= set(kept)
    # ...and another review of the paper is cut at the same places.
    others = [StoredPoint(100 + i, 2, i, None, f"another {i}") for i in range(n_points)]
    assert [p.position for p in equal_cut(others, n, paper)] == [p.position for p in kept]


@settings(max_examples=40)
@given(n_points=st.integers(0, 12), n=st.integers(0, 14), paper=st.text(max_size=9))
def test_every_point_is_in_equally_many_cuts(n_points: int, n: int, paper: str) -> None:
    points = [StoredPoint(i, 1, i, None, f"point {i}") for i in range(n_points)]
    cuts = equal_cuts(points, n, paper)
    assert cuts[0] == equal_cut(points, n, paper)
    assert {len(set(cut)) for cut in cuts} == {min(n, n_points)}
    assert len({sum(point in cut for cut in cuts) for point in points}) <= 1
    assert len(cuts) == (n_points if 0 < n < n_points else 1)
