"""Training tokens equal those of guided generation; truncation keeps suffix and end token."""

from __future__ import annotations

import pytest
import torch

from models.grammar.token_tables import NODE, advance, allowed_tokens, initial_state
from models.text.aspects import SHIPPED
from models.text.parsing import render
from models.text.review import Item
from models.text.templates import CHATML, LLAMA2, LLAMA3, Template, encode_text
from testing.tokenizers import TOKENIZERS
from tests.unit.generation.conftest import tables_of
from trainer.data.dataset import TrainingPair
from trainer.data.pair_encoding import Limits, PairEncoder, review_tokens

TEMPLATES = {"smollm2": CHATML, "llama3": LLAMA3, "sentencepiece": LLAMA2}
ITEMS = [
    Item("acceptance", 0, "Clear writing", "The paper is well-written (e.g., Fig. 3)."),
    Item("acceptance", 1, "No related", "Naïve “quotes” – 日本 and <|im_end|> <|eot_id|> </s>"),
    Item("suggestions", 0, "Ablation:", "Why 5.3% with $x < y$? [See Table 2]"),
]


@pytest.mark.parametrize("aspects", SHIPPED)
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_a_review_becomes_tokens_that_the_grammar_allows(name: str, aspects: str) -> None:
    tables, each = tables_of(name), TOKENIZERS[name]()
    review = render(ITEMS, SHIPPED[aspects])

    tokens = [*review_tokens(each.tokenizer, review), each.end_token_id]

    state = initial_state(torch.tensor([tables.start_of(SHIPPED[aspects]).guided_node]))
    limit, share = torch.tensor([10_000]), torch.tensor([0])
    for position, token in enumerate(tokens):
        allowed = allowed_tokens(tables, state, limit, share, len(tables.class_of))
        assert allowed[0, token], (position, each.tokenizer.decode(tokens[: position + 1]))
        state = advance(tables, state, torch.tensor([token]))
    assert int(state[0, NODE]) == 0
    assert each.tokenizer.decode(tokens[:-1], skip_special_tokens=False).strip() == review.strip()


@pytest.mark.parametrize(("name", "template"), TEMPLATES.items())
def test_only_tails_are_cut_and_a_short_review_leaves_room_for_the_paper(
    name: str, template: Template
) -> None:
    tokenizer = TOKENIZERS[name]().tokenizer
    aspects = SHIPPED["4"]
    frame = len(template.encode_prefix(tokenizer, aspects.system_prompt))
    limits = Limits(max_prompt_tokens=frame + 100, max_response_tokens=60)
    encoder = PairEncoder(tokenizer, template, aspects, limits)
    suffix = tuple(template.encode_suffix(tokenizer))
    paper = "word and more " * 200

    for review in ("short\n\n", "word and more " * 200):
        sample = encoder.encode(TrainingPair("a", "b", paper, review))

        assert len(sample.prompt_ids) + len(sample.response_ids) == limits.max_pair_tokens
        assert sample.prompt_ids[len(sample.prompt_ids) - len(suffix) :] == suffix
        assert sample.response_ids[-1] == template.end_of_turn_id(tokenizer)
        assert len(sample.response_ids) <= limits.max_response_tokens
        paper_ids = tuple(encode_text(tokenizer, paper))
        kept = len(paper_ids) - sample.n_paper_tokens_cut
        assert sample.prompt_ids[frame : frame + kept] == paper_ids[:kept]
