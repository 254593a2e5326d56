"""From verdicts on papers to win rates."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.schema_judging import Outcome
from judge.statistics import ALPHA, Estimate, mcnemar, share
from judge.win_rates import (
    Ballot,
    PaperOutcome,
    WinRates,
    combine_orders,
    count_wins,
    decide,
    papers_needed,
    position,
)

PUBLISHED = Path(__file__).parents[3] / "docs" / "pk"

outcomes = st.lists(st.sampled_from(["win", "tie", "lose", "invalid"]), max_size=40)
OTHER: dict[Outcome, Outcome] = {"win": "lose", "lose": "win", "tie": "tie", "invalid": "invalid"}


@pytest.mark.parametrize(
    ("both", "expected"),
    [
        (("win", "win"), PaperOutcome("win")),
        (("lose", "lose"), PaperOutcome("lose")),
        (("win", "tie"), PaperOutcome("tie")),
        (("win", "lose"), PaperOutcome("tie", inconsistent=True)),
        (("win", "invalid"), PaperOutcome("invalid")),
    ],
)
def test_a_paper_is_won_by_who_wins_in_both_orders(
    both: tuple[Outcome, Outcome], expected: PaperOutcome
) -> None:
    assert combine_orders([Ballot("a", both[0]), Ballot("b", both[1])]) == expected
    assert combine_orders([Ballot("a", both[1]), Ballot("b", both[0])]) == expected


@given(outcomes)
@settings(max_examples=40)
def test_swapping_the_reviewers_swaps_the_standing(found: list[Outcome]) -> None:
    ours = count_wins([PaperOutcome(outcome) for outcome in found])
    theirs = count_wins([PaperOutcome(OTHER[outcome]) for outcome in found])
    assert (ours.win, ours.tie, ours.lose) == (theirs.lose, theirs.tie, theirs.win)
    assert ours.n + ours.invalid == len(found)
    assert ours.test.exact == pytest.approx(theirs.test.exact)
    if ours.n:
        assert ours.score.value == pytest.approx(1 - theirs.score.value)
        assert ours.score.low <= ours.score.value <= ours.score.high


def test_a_reviewer_against_itself_is_all_ties_and_undecided() -> None:
    found = count_wins([PaperOutcome("tie")] * 50)
    assert (found.tie, found.score.value) == (50, 0.5)
    (decision,) = decide([found])
    assert (decision.direction, decision.p_holm) == ("undecided", 1)


def test_a_row_whose_own_interval_clears_a_half_is_undecided_among_eight() -> None:
    # Given a row whose interval is above a half, and seven more, four of them clearly decided
    clear, none = counted(48, 0, 3), counted(25, 0, 26)
    row = count_wins(
        [PaperOutcome("win")] * 29 + [PaperOutcome("tie")] * 8 + [PaperOutcome("lose")] * 14
    )
    assert row.score.low > 0.5
    # Then it is decided alone, and undecided with the others
    (alone,) = decide([row])
    assert (alone.direction, alone.p_holm) == ("better", row.test.mid_p)
    *_, among = decide([clear] * 4 + [none] * 3 + [row])
    assert (among.direction, among.rows) == ("undecided", 8)
    assert among.p_holm == pytest.approx(4 * row.test.mid_p)
    assert among.p_holm == pytest.approx(0.0905, abs=5e-5)
    # And more papers are needed than exist, and more than for it alone
    needed = papers_needed(row, 0.5, among.rows)
    assert needed is not None
    assert needed > max(row.n, papers_needed(row, 0.5, 1) or 0)


def counted(win: int, tie: int, lose: int) -> WinRates:
    """A standing with an arbitrary interval, which the decision does not use."""
    n = win + tie + lose
    score = Estimate((win + tie / 2) / n if n else math.nan, 0, 1, n)
    return WinRates(
        *(n, win, tie, lose, 0, 0, score),
        *(share(win, win + lose), share(win, n), mcnemar(win, lose)),
    )


def test_published_report_agrees_with_the_rule() -> None:
    told = json.loads((PUBLISHED / "report.json").read_text())["comparisons"]
    totals = [each["methods"][0]["total"] for each in told]
    decisions = decide([counted(t["win"], t["tie"], t["lose"]) for t in totals])
    assert [each["direction"] for each in told] == [d.direction for d in decisions]
    assert [each["p_holm"] for each in told] == pytest.approx([d.p_holm for d in decisions])
    page = (PUBLISHED / "index.html").read_text()
    assert re.findall(r"<td>(better|worse|undecided)</td>", page) == [
        d.direction for d in decisions
    ]


several = st.lists(st.builds(counted, *[st.integers(0, 40)] * 3), min_size=1, max_size=12)


@given(several)
def test_the_word_and_holms_p_never_disagree(found: list[WinRates]) -> None:
    for each, decision in zip(found, decide(found), strict=True):
        assert (decision.direction != "undecided") == (decision.p_holm <= ALPHA)
        if decision.direction != "undecided":
            assert decision.direction == ("better" if each.win > each.lose else "worse")
        # And a single row keeps its own p-value, which others only raise
        (alone,) = decide([each])
        assert alone.p_holm == each.test.mid_p <= decision.p_holm
        assert decision.direction in (alone.direction, "undecided")


@given(several)
def test_turning_the_contestants_round_turns_the_words_round(found: list[WinRates]) -> None:
    other = {"better": "worse", "worse": "better", "undecided": "undecided"}
    turned = decide([counted(each.lose, each.tie, each.win) for each in found])
    assert [each.direction for each in turned] == [other[d.direction] for d in decide(found)]


@given(st.integers(1, 20), st.floats(0.0, 1.0))
def test_papers_are_asked_for_beyond_those_that_did_not_decide(rows: int, gate: float) -> None:
    found = counted(12, 4, 9)
    needed = papers_needed(found, gate, rows)
    assert (needed is None) == (gate == found.score.value)
    assert needed is None or needed > found.n
    assert papers_needed(counted(0, 0, 0), gate, rows) is None


def test_unbiased_judge_prefers_the_first_review_half_of_the_time() -> None:
    fair = [[Ballot("a", "win"), Ballot("b", "win")]] * 10
    found = position(fair)
    assert found is not None
    assert (found.consistent.value, found.first_preferred.value) == (1.0, 0.5)
    assert position([[Ballot("neither", "win")]]) is None
