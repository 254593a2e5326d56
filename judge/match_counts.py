"""Counts and match-PK verdicts of a paper from its matched pairs.

In a match-PK the review that hits more of the reference's points wins, and equal hits are a tie.
Hits are counted for all points, and as expected hits at the shorter review's number of points.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from db.points import StoredPoint
from db.schema_judging import MATCH, MATCH_EQUAL
from judge.matching import PointPair, Weights, count, hit_weights, restrict, weight_matrix
from judge.overlap import Overlap
from judge.point_extraction import equal_cut, equal_cuts

Points = Sequence[StoredPoint]

#: Decimals of expected hits; sums in another order differ beyond these.
_DECIMALS = 6


@dataclass(frozen=True)
class MatchedReview:
    """A generated review's points and their pairs with each reference review's points.

    `pairs` are {reference review id: pairs}, by index in the two lists of points.
    """

    points: Points
    references: Mapping[int, Points]
    pairs: Mapping[int, Sequence[PointPair]]
    #: Threshold from 0 to 10 when points are assigned one to one.
    assign: float | None
    #: SHA-256 of the paper: decides which points an equal cut keeps.
    paper: str

    def matches(self, kept: Points) -> dict[int, list[tuple[int, int]]]:
        """{reference review: matches} of the `kept` points."""
        places = {point.position for point in kept}
        held = {place for place, point in enumerate(self.points) if point.position in places}
        return {
            review: restrict(self.pairs[review], held, assign=self.assign)
            for review in self.references
        }

    def per_reference(self, kept: Points) -> dict[int, Overlap]:
        """{reference review: counts} for the `kept` points."""
        return {
            review: count(matches, len(self.references[review]), len(kept))
            for review, matches in self.matches(kept).items()
        }

    def union(self, kept: Points, aspect: str | None = None) -> Overlap:
        """Counts against all reference reviews' points together, or those of one aspect."""
        offset, matches, n_reference = 0, list[tuple[int, int]](), 0
        for review, found in self.matches(kept).items():
            points = self.references[review]
            wanted = {place for place, point in enumerate(points) if _is_of(point, aspect)}
            matches += [(offset + row, column) for row, column in found if row in wanted]
            offset += len(points)
            n_reference += len(wanted)
        return count(matches, n_reference, len(kept))

    def expected_hits(self, points: Points, n: int, aspect: str | None = None) -> float:
        """Expected number of reference points, or those of an aspect, that `n` of these points hit.

        Rarefaction (Hurlbert, Ecology 52:577, 1971): the mean over all cuts instead of one draw.
        A pair counts by its weight.
        """
        place = {point.position: i for i, point in enumerate(self.points)}
        cuts = [[place[p.position] for p in cut] for cut in equal_cuts(points, n, self.paper)]
        hits = (self._hits(review, cut, aspect) for review in self.references for cut in cuts)
        return round(sum(hits) / len(cuts), _DECIMALS)

    def _hits(self, review: int, cut: Sequence[int], aspect: str | None) -> float:
        found = hit_weights(self._weights[review][:, cut], one_to_one=self.assign is not None)
        rows = [row for row, p in enumerate(self.references[review]) if _is_of(p, aspect)]
        return float(found[rows].sum())

    @cached_property
    def _weights(self) -> Mapping[int, Weights]:
        n = len(self.points)
        return {
            review: weight_matrix(self.pairs[review], len(points), n, assign=self.assign)
            for review, points in self.references.items()
        }


def _is_of(point: StoredPoint, aspect: str | None) -> bool:
    """Whether a point counts under an aspect; free-text reference points count under all."""
    return aspect is None or point.aspect is None or point.aspect == aspect


@dataclass(frozen=True)
class MatchVerdict:
    """Which review hit more, from a's side; `aspect` is None for the whole review.

    Hits are counted under `match`, expected ones under `match_equal`.
    """

    method: str
    aspect: str | None
    outcome: str
    a_hits: float
    b_hits: float
    a_items: int
    b_items: int


def verdicts(a: MatchedReview, b: MatchedReview, aspects: Collection[str]) -> list[MatchVerdict]:
    """Match-PK of a paper for the whole reviews and for each aspect."""
    found = []
    for aspect in (None, *aspects):
        of_a, of_b = _of_aspect(a.points, aspect), _of_aspect(b.points, aspect)
        n = min(len(of_a), len(of_b))
        counted = [r.union(of, aspect).hits_reference for r, of in ((a, of_a), (b, of_b))]
        expected = [r.expected_hits(of, n, aspect) for r, of in ((a, of_a), (b, of_b))]
        found += [
            _verdict(MATCH, aspect, counted, (len(of_a), len(of_b))),
            _verdict(MATCH_EQUAL, aspect, expected, (n, n)),
        ]
    return found


def _of_aspect(points: Points, aspect: str | None) -> Points:
    return [point for point in points if aspect is None or point.aspect == aspect]


def _verdict(
    method: str, aspect: str | None, hits: Sequence[float], items: tuple[int, int]
) -> MatchVerdict:
    a, b = hits
    outcome = "win" if a > b else "lose" if a < b else "tie"
    return MatchVerdict(method, aspect, outcome, a, b, *items)


def counts_of(matched_review: MatchedReview, n_equal: int) -> dict[str, dict[int | None, Overlap]]:
    """{cut: {reference review, or None for their union: counts}}."""
    cuts = {
        "full": matched_review.points,
        "equal": equal_cut(matched_review.points, n_equal, matched_review.paper),
    }
    found: dict[str, dict[int | None, Overlap]] = {}
    for cut, kept in cuts.items():
        found[cut] = {None: matched_review.union(kept)}
        for review, overlap in matched_review.per_reference(kept).items():
            found[cut][review] = overlap
    return found
