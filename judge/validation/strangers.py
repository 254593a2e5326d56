"""Validation against reviews of other papers: the judge must prefer the paper's own review.

One review of a paper and one of another paper are the rivals, the paper's other reviews the
reference; the one with more hits at equal item counts wins, as in a PK. The threshold is chosen on
training papers, by the hits of one cut; the figures are those of held-out papers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from db.points import StoredPoint
from db.schema_judging import HEADLINE
from errors import UserError
from judge.bootstrap import bootstrap, mean, over_groups
from judge.cosine import Similarities, cosines
from judge.match_counts import MatchedReview, verdicts
from judge.matching import embedding_pairs
from judge.point_extraction import equal_cut
from judge.statistics import Estimate
from judge.validation.labels import ReviewedPaper
from judge.validation.matcher import Embed

#: Thresholds to try; closer ones differ by chance.
_THRESHOLDS = tuple(round(0.30 + 0.01 * step, 2) for step in range(21))
#: Reviews of other papers that each review is compared with, where one alone would be too noisy.
_STRANGERS = 5

Vectors = Similarities


@dataclass(frozen=True)
class Case:
    """A paper's own review, a stranger's, and the paper's other reviews, as vectors of points."""

    paper: str
    own: Vectors
    stranger: Vectors
    references: tuple[Vectors, ...]


@dataclass(frozen=True)
class WinTally:
    """Wins of the paper's own review over `n` cases of `papers` papers.

    `wins` is their share of all cases, a tie being none, bootstrapped over papers.
    """

    threshold: float
    n: int
    papers: int
    win: int
    tie: int
    lose: int
    wins: Estimate


@dataclass(frozen=True)
class StrangerFigures:
    """`chosen` and `training` are of the training papers, the others are of those held out.

    `chosen` counts hits of one cut, the others are the PK's verdicts. At the chosen threshold
    `reported` has a case a paper, `repeated` five with as many strangers,
    `every` one for each review. `in_use` is `repeated` at the matcher's own threshold.
    """

    chosen: WinTally
    training: WinTally
    reported: WinTally
    repeated: WinTally
    every: WinTally
    in_use: WinTally


def check_strangers(
    training: Sequence[ReviewedPaper],
    held_out: Sequence[ReviewedPaper],
    embed: Embed,
    in_use: float,
) -> StrangerFigures:
    """Choose the threshold on the training papers and compute the figures of the held-out ones."""
    learnt = cases(training, embed, every=True)
    chosen = _choose(learnt)
    repeated = cases(held_out, embed, strangers=_STRANGERS)
    return StrangerFigures(
        chosen=chosen,
        training=tally(learnt, chosen.threshold),
        reported=tally(cases(held_out, embed), chosen.threshold),
        repeated=tally(repeated, chosen.threshold),
        every=tally(cases(held_out, embed, every=True), chosen.threshold),
        in_use=tally(repeated, in_use),
    )


def cases(
    papers: Sequence[ReviewedPaper], embed: Embed, *, every: bool = False, strangers: int = 1
) -> list[Case]:
    """The cases of papers with two reviews or more: of the first, or of `every` review.

    Strangers are of the next papers by hash. UserError for too few papers.
    """
    several = [paper for paper in papers if len(paper.reviews) > 1]
    if len(several) <= strangers:
        raise UserError(f"Too few papers have several reviews: {strangers + 1} are needed.")
    ring = sorted(several, key=lambda paper: hashlib.sha256(paper.paper.encode()).digest())
    texts = list(dict.fromkeys(t for paper in ring for review in paper.reviews for t in review))
    vector = dict(zip(texts, embed(texts), strict=True))
    made = {p.paper: [np.stack([vector[t] for t in r]) for r in p.reviews] for p in ring}
    return [
        _case(paper.paper, place, made[paper.paper], made[ring[(at + step) % len(ring)].paper])
        for at, paper in enumerate(ring)
        for step in range(1, strangers + 1)
        for place in range(len(paper.reviews) if every else 1)
    ]


def _case(paper: str, place: int, own: Sequence[Vectors], others: Sequence[Vectors]) -> Case:
    references = tuple(review for i, review in enumerate(own) if i != place)
    return Case(paper, own[place], others[min(place, len(others) - 1)], references)


def judged(case: Case, threshold: float) -> str:
    """The outcome by the PK's rule."""
    own, stranger = _matched_reviews(case, threshold)
    found = {verdict.method: verdict.outcome for verdict in verdicts(own, stranger, ())}
    return found[HEADLINE]


def counted(case: Case, threshold: float) -> str:
    """The outcome by hits when the longer review is cut once."""
    rivals = _matched_reviews(case, threshold)
    n = min(len(rival.points) for rival in rivals)
    own, stranger = (r.union(equal_cut(r.points, n, r.paper)).hits_reference for r in rivals)
    return "win" if own > stranger else "lose" if own < stranger else "tie"


def tally(
    of: Sequence[Case], threshold: float, outcome: Callable[[Case, float], str] = judged
) -> WinTally:
    """Count the outcomes under a threshold."""
    outcomes = [outcome(case, threshold) for case in of]
    count = Counter(outcomes)
    places = {paper: place for place, paper in enumerate(dict.fromkeys(c.paper for c in of))}
    groups = [places[case.paper] for case in of]
    won = mean([float(each == "win") for each in outcomes])
    return WinTally(
        *(threshold, len(of), len(places), count["win"], count["tie"], count["lose"]),
        wins=bootstrap(over_groups(won, groups), len(places)),
    )


def _choose(training: Sequence[Case]) -> WinTally:
    """The threshold with the most wins, the middle one of several."""
    tallies = [tally(training, threshold, counted) for threshold in _THRESHOLDS]
    most = max(each.win for each in tallies)
    best = [each for each in tallies if each.win == most]
    return best[len(best) // 2]


def _matched_reviews(case: Case, threshold: float) -> tuple[MatchedReview, MatchedReview]:
    return _matched_review(case, case.own, threshold), _matched_review(
        case, case.stranger, threshold
    )


def _matched_review(case: Case, generated: Vectors, threshold: float) -> MatchedReview:
    return MatchedReview(
        points=_points(len(generated)),
        references={i: _points(len(each)) for i, each in enumerate(case.references)},
        pairs={
            i: embedding_pairs(cosines(each, generated), threshold)
            for i, each in enumerate(case.references)
        },
        assign=10.0 * threshold,
        paper=case.paper,
    )


def _points(n: int) -> list[StoredPoint]:
    """Points without a text, as the vectors hold their content."""
    return [StoredPoint(place, 0, place, None, "") for place in range(n)]
