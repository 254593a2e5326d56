"""Suppression changes the score of one token by the documented formula, and no other score."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.grammar.logits_processors import SamplingRows
from models.grammar.suppression import collateral, suppress
from models.grammar.token_tables import NODE, GrammarTables, advance, initial_state
from models.grammar.vocabulary import Vocabulary
from models.text.aspects import FOUR, SEVEN, AspectSet
from models.text.generation import GenerationRequest, Suppression
from testing.tokenizers import TOKENIZERS
from tests.unit.generation.conftest import tables_of

Make = Callable[..., GenerationRequest]
COEFFICIENTS = (1.0, 0.95, 0.8, 0.5)
TOKEN = 7


def random_scores(rows: int = 64) -> Tensor:
    """Raw scores of both signs and of many sizes; the suppressed token is likely in most rows."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(rows, 200, generator=generator) * 6
    scores[:, TOKEN] = torch.linspace(-8, 24, rows)
    return scores


def lowered(scores: Tensor, coefficient: float, mode: str, temperature: float) -> Tensor:
    count = len(scores)
    return suppress(
        scores,
        TOKEN,
        torch.ones(count, dtype=torch.bool),
        coefficient=torch.full((count,), coefficient),
        by_logit=torch.full((count,), mode == "logit"),
        temperature=torch.full((count,), temperature),
    )


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("temperature", [0.35, 1.0])
def test_probability_mode_scales_the_odds_by_the_coefficient(
    coefficient: float, temperature: float
) -> None:
    scores = random_scores()
    before = (scores / temperature).softmax(-1)[:, TOKEN]
    after = (lowered(scores, coefficient, "probability", temperature) / temperature).softmax(-1)
    expected = coefficient * before / (1 - before + coefficient * before)
    assert torch.allclose(after[:, TOKEN], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_logit_mode_scales_the_raw_score(coefficient: float) -> None:
    scores = random_scores()
    after = lowered(scores, coefficient, "logit", 0.35)[:, TOKEN]
    expected = [s * coefficient if s > 0 else s / coefficient for s in scores[:, TOKEN].tolist()]
    assert torch.allclose(after, torch.tensor(expected), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("mode", ["probability", "logit"])
def test_no_other_score_changes_and_one_changes_nothing(coefficient: float, mode: str) -> None:
    scores = random_scores()
    after = lowered(scores, coefficient, mode, 0.35)
    others = [column for column in range(scores.shape[1]) if column != TOKEN]
    assert torch.equal(after[:, others], scores[:, others])
    assert torch.equal(after, scores) == (coefficient == 1)


def opening_steps(
    tables: GrammarTables, request: GenerationRequest, tokens: tuple[int, ...]
) -> list[int]:
    """Steps of `tokens` at which suppression applies."""
    state = initial_state(SamplingRows.of([request], tables).node)
    steps = []
    for step, token in enumerate(tokens):
        if tables.marker_next[state[0, NODE]]:
            steps.append(step)
        state = advance(tables, state, torch.tensor([token]))
    return steps


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@pytest.mark.parametrize("aspects", [SEVEN, FOUR], ids=["seven", "four"])
@pytest.mark.parametrize("guided", [True, False], ids=["guided", "free"])
def test_it_acts_once_an_aspect_on_the_marker_and_on_titles_alike(
    name: str, aspects: AspectSet, guided: bool, make_request: Make
) -> None:
    # Given an answer with empty and other aspects alternating, with "<" and headings in the text
    tables, vocabulary = tables_of(name), Vocabulary.read(TOKENIZERS[name]().tokenizer)
    bodies = ["<No related terms> -\n", "<Weak> it says [a] <b\n<No more> x\n"]
    answer = "".join(
        f"[{aspect.heading}]\n{bodies[number % 2]}\n"
        for number, aspect in enumerate(aspects.aspects)
    )
    tokens = vocabulary.encode(answer)
    # When it is read token by token
    request = make_request(form=aspects, guided=guided, max_new_tokens=5000)
    steps = opening_steps(tables, request, tokens)
    # Then the steps are those right after each aspect's first "<", or at a token that merges it
    assert len(steps) == len(aspects.aspects)
    for step, aspect in zip(steps, aspects.aspects, strict=True):
        before = vocabulary.text(tokens[:step]).decode().lstrip()
        merged = vocabulary.text((tables.marker_token,)).startswith(b"<")
        assert before.endswith(f"[{aspect.heading}]\n" + ("" if merged else "<"))
    empty = [step for step in steps if tokens[step] == tables.marker_token]
    assert len(empty) == (len(aspects.aspects) + 1) // 2


def test_the_empty_marker_cannot_be_spelled_past_the_suppressed_token(make_request: Make) -> None:
    # Given the marker's text in other tokens, "<", "N", "o", ...
    tables, vocabulary = (
        tables_of("smollm2"),
        Vocabulary.read(TOKENIZERS["smollm2"]().tokenizer),
    )
    spelled = [vocabulary.pieces.index(bytes([byte])) for byte in b"<No related terms"]
    request = make_request(form=FOUR)
    # When a guided row has taken all but the closing bracket
    state = initial_state(SamplingRows.of([request], tables).node)
    for token in (*vocabulary.encode(f"[{FOUR.aspects[0].heading}]\n"), *spelled):
        state = advance(tables, state, torch.tensor([token]))
    # Then no token that begins with the bracket is legal
    node = state[0, NODE]
    closing = [t for t, piece in enumerate(vocabulary.pieces) if (piece or b"").startswith(b">")]
    assert node != 0
    assert (tables.min_tokens[node, tables.class_of[closing]] > 1 << 20).all()


def test_collateral_is_reported_per_tokenizer() -> None:
    smollm2 = collateral(TOKENIZERS["smollm2"]().tokenizer)
    llama3 = collateral(TOKENIZERS["llama3"]().tokenizer)
    assert smollm2.text == llama3.text == "No"
    assert "Novelty" in smollm2.affected
    assert "Novelty" in llama3.unaffected
    assert "No ablation" in smollm2.affected
    assert "No ablation" in llama3.affected
    assert smollm2.merged == ()
    assert "Unclear" in llama3.merged
    assert "Novelty" in str(smollm2)


def test_the_default_is_the_recipes() -> None:
    assert Suppression() == Suppression(mode="logit", coefficient=0.95)
    assert math.isclose(lowered(torch.full((1, 9), 20.0), 0.95, "logit", 1.0)[0, TOKEN], 19.0)
