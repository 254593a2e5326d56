"""Errors keep what a server says and lose what it quotes of the paper."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from models.text.quotation import without_quotations

PAPER = "We rank 4,711 maps of Lake Ladoga by hand.\nThe “blue” ones win, says naïve Bayes.\n" * 3
HASH = "c0ffee" * 6


@pytest.mark.parametrize(
    "quoted",
    [
        PAPER,
        PAPER.upper(),
        PAPER[7:45],
        json.dumps(PAPER),
        repr(PAPER),
        json.dumps(json.dumps(PAPER)),
        PAPER.replace(" ", "  \t"),
        PAPER.replace(" ", "\n"),
        quote(PAPER),
        "maps of Lake Ladoga",
    ],
)
def test_quotation_in_any_escape_is_removed(quoted: str) -> None:
    told = without_quotations(f"400 cannot process: {quoted} (code 7)", [PAPER], 300)

    assert told.startswith("400 cannot process: ")
    assert told.endswith("(code 7)")
    assert "Ladoga" not in told
    assert "Bayes" not in told
    assert "[...]" in told


@pytest.mark.parametrize(
    "sentence",
    [
        "400 This model's maximum context length is 8192 tokens, and 9000 were asked for.",
        "429 slow down",
        "401 Incorrect API key provided: sk-1234.",
        "",
    ],
)
def test_sentence_that_quotes_nothing_is_unchanged(sentence: str) -> None:
    assert without_quotations(sentence, [PAPER, "The number of tokens is 8192."], 300) == sentence


def test_long_word_alone_is_a_quotation() -> None:
    assert without_quotations(f"bad token {HASH}!", [f"See {HASH}."], 300) == "bad token [...]!"


def test_length_is_bounded_whatever_is_quoted() -> None:
    assert len(without_quotations("A" * 10_000_000, [PAPER], 300)) == 300
    assert without_quotations("bad: " + PAPER * 1000, [PAPER], 300) == "bad: [...]"
