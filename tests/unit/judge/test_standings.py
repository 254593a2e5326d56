"""From ballots to standings."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.win_rates import Ballot, Outcome, Settled, position, settle, standing

outcomes = st.lists(st.sampled_from(["win", "tie", "lose", "invalid"]), max_size=40)
OTHER: dict[Outcome, Outcome] = {"win": "lose", "lose": "win", "tie": "tie", "invalid": "invalid"}


@pytest.mark.parametrize(
    ("both", "expected"),
    [
        (("win", "win"), Settled("win")),
        (("lose", "lose"), Settled("lose")),
        (("win", "tie"), Settled("tie")),
        (("win", "lose"), Settled("tie", inconsistent=True)),
        (("win", "invalid"), Settled("invalid")),
    ],
)
def test_a_paper_is_won_by_who_wins_in_both_orders(
    both: tuple[Outcome, Outcome], expected: Settled
) -> None:
    assert settle([Ballot("a", both[0]), Ballot("b", both[1])]) == expected
    assert settle([Ballot("a", both[1]), Ballot("b", both[0])]) == expected


@given(outcomes)
@settings(max_examples=40)
def test_turning_the_contestants_round_turns_the_standing_round(found: list[Outcome]) -> None:
    ours = standing([Settled(outcome) for outcome in found])
    theirs = standing([Settled(OTHER[outcome]) for outcome in found])
    assert (ours.win, ours.tie, ours.lose) == (theirs.lose, theirs.tie, theirs.win)
    assert ours.n + ours.invalid == len(found)
    assert ours.test.exact == pytest.approx(theirs.test.exact)
    if ours.n:
        assert ours.score.value == pytest.approx(1 - theirs.score.value)
        assert ours.score.low <= ours.score.value <= ours.score.high


def test_a_reviewer_against_itself_is_all_ties_and_undecided() -> None:
    found = standing([Settled("tie")] * 50)
    assert (found.tie, found.score.value, found.direction) == (50, 0.5, "undecided")


def test_a_judge_without_a_habit_prefers_the_first_half_of_the_time() -> None:
    fair = [[Ballot("a", "win"), Ballot("b", "win")]] * 10
    found = position(fair)
    assert found is not None
    assert (found.consistent.value, found.first_preferred.value) == (1.0, 0.5)
    assert position([[Ballot("neither", "win")]]) is None
