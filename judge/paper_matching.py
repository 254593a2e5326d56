"""Matching of one paper: the rivals against the reference, with the levels of chance and people."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from db.comparisons import ComparisonPaper
from db.matches import MatchedPaper, NewCount, NewMatch, NewVerdict
from db.points import StoredPoint
from judge.match_counts import MatchedReview, MatchVerdict, counts_of, verdicts
from judge.matchers import Matcher
from judge.matching import PointPair, count

Points = Sequence[StoredPoint]


@dataclass(frozen=True)
class MatchingInput:
    """Points of all reviews needed to match a paper, by review id."""

    paper: ComparisonPaper
    points: Mapping[int, Points]
    #: Reference reviews of another paper, for the level of chance; empty to leave it out.
    null_reviews: tuple[int, ...] = ()
    with_ceiling: bool = True

    def of(self, review_id: int) -> Points:
        """Points of a review, which may have none."""
        return self.points.get(review_id, ())


def match_paper(
    matching_input: MatchingInput, matcher: Matcher, aspects: Collection[str]
) -> MatchedPaper:
    """Match a paper. Raises the errors of the matcher."""
    paper = matching_input.paper
    pair_cache = _PairCache(matching_input, matcher)
    a = pair_cache.matched_review(paper.a_review, paper.reference_reviews)
    b = pair_cache.matched_review(paper.b_review, paper.reference_reviews)
    n = min(len(a.points), len(b.points))
    counts = [
        *_counts("a", paper.a_review, a, n),
        *_counts("b", paper.b_review, b, n),
    ]
    if matching_input.null_reviews:
        for role, review in (("null_a", paper.a_review), ("null_b", paper.b_review)):
            counts += _counts(
                role, review, pair_cache.matched_review(review, matching_input.null_reviews), n
            )
    if matching_input.with_ceiling:
        counts += pair_cache.ceiling()
    found = [_verdict(v) for v in verdicts(a, b, aspects)]
    return MatchedPaper(paper.paper_id, pair_cache.matches(), counts, found)


class _PairCache:
    """Calls the matcher once for each two reviews and caches the pairs."""

    def __init__(self, matching_input: MatchingInput, matcher: Matcher) -> None:
        self._input = matching_input
        self._matcher = matcher
        self._pairs: dict[tuple[int, int], Sequence[PointPair]] = {}

    def pairs(self, reference: int, generated: int) -> Sequence[PointPair]:
        key = (reference, generated)
        if key not in self._pairs:
            texts = [[point.text for point in self._input.of(review)] for review in key]
            self._pairs[key] = self._matcher.pairs(*texts) if all(texts) else []
        return self._pairs[key]

    def matched_review(self, generated: int, references: Sequence[int]) -> MatchedReview:
        return MatchedReview(
            points=self._input.of(generated),
            references={review: self._input.of(review) for review in references},
            pairs={review: self.pairs(review, generated) for review in references},
            assign=self._matcher.assign,
            paper=self._input.paper.sha256,
        )

    def ceiling(self) -> list[NewCount]:
        """Each reference review against each other one of the same paper."""
        reviews = self._input.paper.reference_reviews
        found = []
        for generated in reviews:
            for reference in reviews:
                if generated != reference:
                    pairs = self.pairs(reference, generated)
                    matches = [(p.reference, p.generated) for p in pairs if p.matched]
                    sizes = len(self._input.of(reference)), len(self._input.of(generated))
                    overlap = vars(count(matches, *sizes))
                    found.append(NewCount("ceiling", "full", generated, reference, **overlap))
        return found

    def matches(self) -> list[NewMatch]:
        """All pairs, by the ids of their points."""
        return [
            NewMatch(
                reference_point_id=self._input.of(reference)[pair.reference].id,
                generated_point_id=self._input.of(generated)[pair.generated].id,
                matcher=self._matcher.name,
                similarity=pair.similarity,
                matched=pair.matched,
                votes=pair.votes,
                relatedness=pair.relatedness,
                specificity=pair.specificity,
                rationale=pair.rationale,
            )
            for (reference, generated), pairs in self._pairs.items()
            for pair in pairs
        ]


def _counts(role: str, review: int, matched_review: MatchedReview, n_equal: int) -> list[NewCount]:
    return [
        NewCount(role, cut, review, reference, **vars(overlap))
        for cut, of_references in counts_of(matched_review, n_equal).items()
        for reference, overlap in of_references.items()
    ]


def _verdict(found: MatchVerdict) -> NewVerdict:
    return NewVerdict(
        method=found.method,
        aspect=found.aspect,
        outcome=found.outcome,
        a_score=found.a_hits,
        b_score=found.b_hits,
        a_items=found.a_items,
        b_items=found.b_items,
    )
