"""Answers of random models through plain `generate`, and independence of rows in a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from models.grammar.logits_processors import (
    SamplingMode,
    SamplingRows,
    build_processors,
    process_scores,
    sample_tokens,
)
from models.grammar.token_tables import GrammarTables, advance, initial_state
from models.text.aspects import FOUR
from models.text.generation import GenerationRequest, Suppression
from models.text.parsing import parse
from testing.random_reviews import batches, generate, random_model
from testing.tokenizers import TOKENIZERS
from tests.unit.generation.conftest import tables_of
from tests.unit.generation.decoding import decode

Make = Callable[..., GenerationRequest]


@pytest.mark.parametrize(("name", "answers"), [("smollm2", 6), ("llama3", 3)])
def test_every_answer_of_a_random_model_parses_strictly(name: str, answers: int) -> None:
    """`make check-parse` does the same with 500 answers of each."""
    tables, each = tables_of(name), TOKENIZERS[name]()
    model, texts = random_model(tables), set()
    for requests in batches(tables, answers):
        for request, answer in zip(requests, generate(model, tables, requests), strict=True):
            assert each.end_token_id in answer[: request.max_new_tokens]
            text = each.tokenizer.decode(answer, skip_special_tokens=True)
            assert request.form is not None
            assert parse(text, request.form).strict, text
            texts.add(text)
    assert len(texts) > 0.7 * answers


def test_batched_rows_give_the_same_answers_as_single_rows(make_request: Make) -> None:
    # Given rows that differ in everything
    tables = tables_of("sentencepiece")
    base = make_request(max_new_tokens=600, suppression=Suppression("probability", 0.5))
    requests = [
        base,
        replace(base, form=FOUR, max_new_tokens=300, seed=5),
        replace(base, guided=False, max_new_tokens=200, seed=6),
        replace(base, temperature=0.0, max_new_tokens=520),
        replace(base, temperature=2.0, top_p=0.5, suppression=None, seed=(1 << 62) + 1),
    ]
    scores = torch.randn(600, len(tables.class_of), generator=torch.Generator().manual_seed(3))
    # When they decode together and one by one
    together = decode(tables, requests, lambda step: scores[step].expand(len(requests), -1).clone())
    alone = [decode(tables, [request], lambda step: scores[step][None]) for request in requests]
    # Then the answers are the same
    assert together == [answer for [answer] in alone]


@pytest.mark.parametrize("sampling_mode", SamplingMode)
def test_minimal_sampling_mode_gives_the_same_tokens_as_the_full_one(
    sampling_mode: SamplingMode, make_request: Make
) -> None:
    # Given rows of which none needs more of sampling than `sampling_mode`
    tables = tables_of("sentencepiece")
    base = make_request(max_new_tokens=600, suppression=Suppression("probability", 0.5))
    samplings = [(0.0, 1.0), (0.0, 0.9), (0.35, 0.9), (5.0, 0.5), (0.7, 1.0), (5.0, 1.0)]
    requests = [
        replace(base, temperature=temperature, top_p=top_p, seed=seed, guided=seed % 2 == 0)
        for seed, (temperature, top_p) in enumerate(samplings)
    ]
    requests = [request for request in requests if SamplingMode.of(request) <= sampling_mode]
    assert max(map(SamplingMode.of, requests)) is sampling_mode
    rows = SamplingRows.of(requests, tables)
    state = initial_state(rows.node)
    # When they generate step by step, then both modes sample the same tokens
    for scores in torch.randn(
        200, len(requests), len(tables.class_of), generator=torch.Generator().manual_seed(3)
    ):
        token = sample_tokens(tables, rows, state, scores, sampling_mode)
        assert torch.equal(token, process_scores(tables, rows, state, scores).argmax(-1))
        state = advance(tables, state, token)


def test_top_p_that_rounds_to_one_needs_the_whole_vocabulary(make_request: Make) -> None:
    assert SamplingMode.of(make_request(temperature=0.35, top_p=1 - 1e-12)) is SamplingMode.FULL
    assert SamplingMode.of(make_request(temperature=1e-60, top_p=1.0)) is SamplingMode.GREEDY


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(make_request: Make) -> None:
    tables = tables_of("sentencepiece")
    request = make_request(form=FOUR, max_new_tokens=300, temperature=5.0, seed=1)
    requests = [request, replace(request, seed=2), request]
    first, other, again = generate(random_model(tables), tables, requests)
    assert first == again
    assert first != other


def test_coefficient_one_leaves_scores_bitwise_unchanged(make_request: Make) -> None:
    tables = tables_of("sentencepiece")
    off = [make_request(suppression=None, top_p=1.0)]
    scores = torch.randn(600, len(tables.class_of), generator=torch.Generator().manual_seed(4))
    for mode in ("probability", "logit"):
        one = [replace(off[0], suppression=Suppression(mode, 1.0))]
        rows, rows_off = SamplingRows.of(one, tables), SamplingRows.of(off, tables)
        state = initial_state(rows.node)
        for raw in scores[:300]:
            chosen = process_scores(tables, rows, state, raw[None])
            assert torch.equal(chosen, process_scores(tables, rows_off, state, raw[None]))
            state = advance(tables, state, chosen.argmax(-1))


def test_an_unguided_greedy_row_keeps_its_scores(make_request: Make) -> None:
    tables = tables_of("sentencepiece")
    rows = SamplingRows.of([make_request(guided=False, temperature=0.0, top_p=1.0)], tables)
    scores = torch.randn(1, len(tables.class_of))
    assert torch.equal(process_scores(tables, rows, initial_state(rows.node), scores), scores)


def test_a_processor_starts_afresh_with_each_generate(make_request: Make) -> None:
    tables = tables_of("sentencepiece")
    [processor] = build_processors(make_request(), tables, prompt_length=3)
    prompt, scores = torch.ones(1, 3, dtype=torch.long), torch.zeros(1, len(tables.class_of))
    first = processor(prompt, scores)
    processor(torch.ones(1, 4, dtype=torch.long), scores)
    assert torch.equal(processor(prompt, scores), first)


def test_a_step_never_waits_for_the_device(make_request: Make) -> None:
    """On the meta device, reading any value fails, as it would inside a CUDA graph."""
    tables = tables_of("sentencepiece")
    fields: dict[str, Any] = {
        name: value.to("meta") if torch.is_tensor(value) else value
        for name, value in vars(tables).items()
    }
    on_meta = GrammarTables(**fields)
    rows = SamplingRows.of([make_request(top_p=0.5, suppression=Suppression())] * 2, on_meta)
    state = initial_state(rows.node)
    scores = torch.zeros(2, len(tables.class_of), device="meta")
    for sampling_mode in SamplingMode:
        token = sample_tokens(on_meta, rows, state, scores, sampling_mode)
        assert advance(on_meta, state, token).shape == state.shape
