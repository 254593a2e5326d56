"""From matched pairs of a paper to counts and match-PK verdicts; knows no matcher and no SQL.

Match-PK: whoever hits more of the reference's points wins, equal hits are a tie. Once with all
points, once with as many as the shorter review has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from db.points import StoredPoint
from judge.matching import Pair, count, restrict
from judge.metrics import Overlap
from judge.points import equal_cut

Points = Sequence[StoredPoint]


@dataclass(frozen=True)
class Reading:
    """A generated review's points with their pairs against each reference review's points.

    `pairs` are {reference review id: pairs}, by place in the two lists of points.
    """

    points: Points
    references: Mapping[int, Points]
    pairs: Mapping[int, Sequence[Pair]]
    #: Threshold from 0 to 10 when points are assigned one to one.
    assign: float | None
    #: SHA-256 of the paper: decides which points an equal cut keeps.
    paper: str

    def matches(self, kept: Points) -> dict[int, list[tuple[int, int]]]:
        """{reference review: matches} when only the `kept` points are there."""
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


def _is_of(point: StoredPoint, aspect: str | None) -> bool:
    """Points of a free-text reference belong to every aspect."""
    return aspect is None or point.aspect is None or point.aspect == aspect


@dataclass(frozen=True)
class MatchVerdict:
    """Who hit more, seen from a; `aspect` None is the whole review."""

    method: str
    aspect: str | None
    outcome: str
    a_hits: int
    b_hits: int
    a_items: int
    b_items: int


def verdicts(a: Reading, b: Reading, aspects: Collection[str]) -> list[MatchVerdict]:
    """Match-PK of a paper for the whole reviews and for each aspect."""
    found = []
    for aspect in (None, *aspects):
        of_a, of_b = _of_aspect(a.points, aspect), _of_aspect(b.points, aspect)
        n = min(len(of_a), len(of_b))
        short_a, short_b = equal_cut(of_a, n, a.paper), equal_cut(of_b, n, b.paper)
        cuts = (("match", of_a, of_b), ("match_equal", short_a, short_b))
        found += [_verdict(method, aspect, a, b, kept_a, kept_b) for method, kept_a, kept_b in cuts]
    return found


def _of_aspect(points: Points, aspect: str | None) -> Points:
    return [point for point in points if aspect is None or point.aspect == aspect]


def _verdict(
    method: str, aspect: str | None, a: Reading, b: Reading, kept_a: Points, kept_b: Points
) -> MatchVerdict:
    hits_a = a.union(kept_a, aspect).hits_reference
    hits_b = b.union(kept_b, aspect).hits_reference
    outcome = "win" if hits_a > hits_b else "lose" if hits_a < hits_b else "tie"
    return MatchVerdict(method, aspect, outcome, hits_a, hits_b, len(kept_a), len(kept_b))


def counts_of(reading: Reading, n_equal: int) -> dict[str, dict[int | None, Overlap]]:
    """{cut: {reference review, or None for their union: counts}}."""
    cuts = {"full": reading.points, "equal": equal_cut(reading.points, n_equal, reading.paper)}
    found: dict[str, dict[int | None, Overlap]] = {}
    for cut, kept in cuts.items():
        found[cut] = {None: reading.union(kept)}
        for review, overlap in reading.per_reference(kept).items():
            found[cut][review] = overlap
    return found
