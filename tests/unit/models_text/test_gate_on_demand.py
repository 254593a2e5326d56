"""Checks for mergers only: the answer is complete and grounded in its source."""

from __future__ import annotations

import pytest

from models.text import gate
from models.text.aspects import FOUR
from models.text.gate import GateConfig
from models.text.generation import Finish
from models.text.parsing import parse, render
from models.text.review import GateResult, Item

SOURCE = "The comparisons with recent baselines are weak. The novelty of the pruning is limited."


def result(text: str, finish: Finish = "stop", *fatal: str) -> GateResult:
    raw = render([Item("rejection", 0, "On it", text)], FOUR)
    return gate.check(
        parse(raw, FOUR),
        aspects=FOUR,
        raw=raw,
        system="",
        paper_text=SOURCE,
        finish=finish,
        n_output_tokens=10,
        config=GateConfig(fatal=fatal),
    )


@pytest.mark.parametrize(
    ("text", "finish", "passes"),
    [
        ("Comparing with recent baselines shows weaknesses.", "stop", True),
        ("Comparing with recent baselines shows weaknesses.", "length", False),
        ("Quantum annealers surpass photonic chips in navigation.", "stop", False),
    ],
)
def test_a_merge_must_end_by_itself_and_be_grounded(
    text: str, finish: Finish, passes: bool
) -> None:
    assert result(text, finish, "complete", "grounded").passed is passes


def test_check_on_demand_applies_to_no_other_reviewer() -> None:
    names = {check.name for check in result("Quantum annealers.", "length").checks}

    assert names == set(gate.CHECKS)
