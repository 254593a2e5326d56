"""Win rates of a comparison with their uncertainty, from verdicts on papers.

All outcomes are those of reviewer a. A paper judged in both orders is won by a win in both.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from db.schema_judging import Outcome, ShownFirst
from judge.bootstrap import mean_share
from judge.statistics import ALPHA, Estimate, PairedTest, holm, mcnemar, papers_to_decide, share

Direction = Literal["better", "worse", "undecided"]

#: The score of an outcome.
WORTH: Mapping[str, float] = {"win": 1.0, "tie": 0.5, "lose": 0.0}
#: Strata with fewer papers are resampled together: a stratum of one paper would never vary.
MIN_STRATUM = 5


@dataclass(frozen=True)
class Ballot:
    """One answer of a judge: its outcome for a, and whose review it saw first."""

    shown_first: ShownFirst
    outcome: Outcome


@dataclass(frozen=True)
class PaperOutcome:
    """The outcome of a paper; `inconsistent` when the two orders had different winners."""

    outcome: Outcome
    inconsistent: bool = False


@dataclass(frozen=True)
class WinRates:
    """Wins, ties and losses of a over `n` valid papers.

    `score` is (wins + ties / 2) / n with its bootstrap interval over papers; `decisive` the wins
    among decided papers and `win_share` the wins among all, both with Wilson's. `test` is
    McNemar's on wins against losses.
    """

    n: int
    win: int
    tie: int
    lose: int
    inconsistent: int
    invalid: int
    score: Estimate
    decisive: Estimate
    win_share: Estimate
    test: PairedTest

    @property
    def deviation(self) -> float:
        """Standard deviation of the papers' scores."""
        second_moment = (self.win + self.tie / 4) / self.n
        return math.sqrt(max(0.0, second_moment - self.score.value**2))


@dataclass(frozen=True)
class Decision:
    """Whether a is better in one of `rows` comparisons that are decided together.

    `p_holm` is the mid-p of the comparison, adjusted by Holm's method over all of them.
    """

    direction: Direction
    p_holm: float
    rows: int


@dataclass(frozen=True)
class PositionBias:
    """Effect of the order of the reviews on a judge that saw both orders.

    `consistent`: share of papers with the same verdict in both; `first_preferred`: share of decided
    answers that went to the review shown first, 0.5 when position does not matter.
    """

    consistent: Estimate
    first_preferred: Estimate


def complete(ballots: Sequence[Ballot]) -> bool:
    """Whether a paper is fully judged: by counts, in both orders, or by an unreadable answer."""
    seen = {ballot.shown_first for ballot in ballots}
    unreadable = any(ballot.outcome == "invalid" for ballot in ballots)
    return unreadable or "neither" in seen or seen == {"a", "b"}


def combine_orders(ballots: Sequence[Ballot]) -> PaperOutcome:
    """Combine the answers on a paper; a win and a tie, and a win and a loss, are a tie."""
    outcomes = {ballot.outcome for ballot in ballots}
    if "invalid" in outcomes or not outcomes:
        return PaperOutcome("invalid")
    if len(outcomes) == 1:
        return PaperOutcome(ballots[0].outcome)
    return PaperOutcome("tie", inconsistent={"win", "lose"} <= outcomes)


def count_wins(
    settled: Sequence[PaperOutcome], strata: Sequence[Hashable] | None = None
) -> WinRates:
    """Count the outcomes of papers; invalid ones are counted and otherwise ignored."""
    valid = [i for i, paper in enumerate(settled) if paper.outcome != "invalid"]
    tally = Counter(settled[i].outcome for i in valid)
    win, tie, lose = tally["win"], tally["tie"], tally["lose"]
    groups = merge_small([strata[i] for i in valid]) if strata is not None else None
    return WinRates(
        *(len(valid), win, tie, lose),
        inconsistent=sum(paper.inconsistent for paper in settled),
        invalid=len(settled) - len(valid),
        score=mean_share([WORTH[settled[i].outcome] for i in valid], groups),
        decisive=share(win, win + lose),
        win_share=share(win, len(valid)),
        test=mcnemar(win, lose),
    )


def decide(rows: Sequence[WinRates]) -> list[Decision]:
    """Decide comparisons that are reported together, in the order given.

    A row is better or worse when its p after Holm is at most ALPHA, so that whatever the number of
    rows, any of them is called so by chance with at most this probability. The interval of a
    score holds for its row alone and decides nothing.
    """
    adjusted = holm([each.test.mid_p for each in rows])
    return [
        Decision(_direction(each, p), p, len(rows)) for each, p in zip(rows, adjusted, strict=True)
    ]


def _direction(rates: WinRates, p_holm: float) -> Direction:
    if p_holm > ALPHA or rates.win == rates.lose:
        return "undecided"
    return "better" if rates.win > rates.lose else "worse"


def papers_needed(rates: WinRates, gate: float, rows: int) -> int | None:
    """The number of papers that would decide on which side of the gate one of `rows` scores is.

    None without papers, and when the score equals the gate. Always more papers than there are, as
    these have not decided.
    """
    score = rates.score.value
    if not rates.n or score == gate:
        return None
    if score < gate:
        score, gate = 1.0 - score, 1.0 - gate
    return max(papers_to_decide(score, rates.deviation, gate, rows=rows), rates.n + 1)


def position(papers: Sequence[Sequence[Ballot]]) -> PositionBias | None:
    """The position bias over the papers judged in both orders; None when there are none."""
    both = [
        ballots
        for ballots in papers
        if {b.shown_first for b in ballots} == {"a", "b"}
        and all(b.outcome != "invalid" for b in ballots)
    ]
    if not both:
        return None
    same = sum(len({b.outcome for b in ballots}) == 1 for ballots in both)
    decided = [b for ballots in both for b in ballots if b.outcome != "tie"]
    to_first = sum((b.shown_first == "a") == (b.outcome == "win") for b in decided)
    return PositionBias(share(same, len(both)), share(to_first, len(decided)))


def merge_small(strata: Sequence[Hashable]) -> list[Hashable]:
    """Merge the strata of fewer than MIN_STRATUM papers into one."""
    sizes = Counter(strata)
    return [stratum if sizes[stratum] >= MIN_STRATUM else None for stratum in strata]
