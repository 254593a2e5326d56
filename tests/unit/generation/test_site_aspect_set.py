"""The grammar of an aspect set that is not shipped with Referee."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from errors import RequestRefused
from models.grammar.logits_processors import SamplingRows
from models.grammar.token_tables import GrammarTables
from models.text.aspects import FOUR, SEVEN, AspectSet, load_aspect_set
from models.text.generation import GenerationRequest, Suppression
from models.text.parsing import parse
from testing.random_reviews import generate, random_model
from testing.tokenizers import TOKENIZERS
from tests.aspect_sets import FIVE

Make = Callable[..., GenerationRequest]


@pytest.fixture
def five(tmp_path: Path) -> AspectSet:
    path = tmp_path / "five.yaml"
    path.write_text(FIVE)
    return load_aspect_set(path)


def test_a_random_model_writes_the_form_of_a_file_strictly(
    five: AspectSet, make_request: Make
) -> None:
    # Given tables of the recipe's sets and a site's, and a model with random weights
    each = TOKENIZERS["sentencepiece"]()
    tables = GrammarTables.build(each.tokenizer, (SEVEN, FOUR, five), each.end_token_id)
    limit = tables.start_of(five).minimum
    requests = [
        make_request(
            form=five,
            max_new_tokens=limit + 30 * (seed % 3),
            seed=seed,
            temperature=(0.0, 1.0, 50.0)[seed % 3],
            suppression=Suppression() if seed % 2 else None,
        )
        for seed in range(6)
    ]
    # When it generates, then every answer is complete and parses strictly
    for answer in generate(random_model(tables), tables, requests):
        text = each.tokenizer.decode(answer, skip_special_tokens=True)
        assert answer[-1] == each.end_token_id
        assert parse(text, five).strict, text


def test_aspect_set_added_after_the_engine_started_is_refused(
    five: AspectSet, make_request: Make
) -> None:
    each = TOKENIZERS["sentencepiece"]()
    tables = GrammarTables.build(each.tokenizer, (FOUR,), each.end_token_id)

    with pytest.raises(RequestRefused, match="aspect set five was added or changed") as refusal:
        SamplingRows.of([make_request(form=five)], tables)
    assert refusal.value.kind == "form"
    # A request without a form needs no tables of one
    SamplingRows.of([make_request(form=None, guided=False)], tables)
