"""Templates write the official formats and refuse tokenizers that they do not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers import Tokenizer

from errors import UserError
from models.text.templates import CHATML, LLAMA2, LLAMA3, TEMPLATES, Template, encode_text
from testing.tokenizers import TOKENIZERS

FITTING = [(LLAMA3, "llama3"), (CHATML, "smollm2"), (LLAMA2, "sentencepiece")]


def tokenizer_named(name: str) -> Tokenizer:
    return TOKENIZERS[name]().tokenizer


def test_llama3_has_no_dates_and_opens_the_answer() -> None:
    assert LLAMA3.render("S", "P") == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nP<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_llama2_puts_the_system_prompt_into_the_instruction() -> None:
    assert LLAMA2.render("S", "P") == "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nP [/INST]"


def test_chatml_is_the_format_of_smollm2() -> None:
    assert CHATML.render("S", "P") == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nP<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=list(TEMPLATES))
def test_generation_prompt_makes_a_difference_and_only_at_the_end(template: Template) -> None:
    without = template.render("S", "P", generation_prompt=False)

    assert template.render("S", "P") == without + template.generation_prompt != without
    assert template.end_of_turn in template.special_tokens


@pytest.mark.parametrize(("template", "tokenizer"), FITTING)
def test_fitting_tokenizer_passes_the_check(template: Template, tokenizer: str) -> None:
    raw = tokenizer_named(tokenizer)

    template.check(raw)

    assert template.end_of_turn_id(raw) == raw.token_to_id(template.end_of_turn)


@pytest.mark.parametrize(("template", "other"), [(LLAMA3, "smollm2"), (LLAMA2, "llama3")])
def test_tokenizer_without_the_special_tokens_is_refused(template: Template, other: str) -> None:
    with pytest.raises(UserError, match="is not one of its special tokens"):
        template.check(tokenizer_named(other))


def test_token_that_is_ordinary_text_to_the_tokenizer_is_refused() -> None:
    # Given a template that takes a word of the vocabulary for a special token
    odd = replace(LLAMA2, special_tokens=("<s>", "</s>", "te"))

    with pytest.raises(UserError, match="'te' is not one of its special tokens"):
        odd.check(tokenizer_named("sentencepiece"))


def test_template_whose_generation_prompt_is_empty_is_refused() -> None:
    # Llama 3.1's own template of July 2024 had this effect: the two outputs were equal.
    broken = replace(LLAMA3, generation_prompt="")

    with pytest.raises(UserError, match="same with and without its generation prompt"):
        broken.check(tokenizer_named("llama3"))


@pytest.mark.parametrize(("template", "tokenizer"), FITTING)
def test_parts_tokenise_as_the_whole_does(template: Template, tokenizer: str) -> None:
    raw = tokenizer_named(tokenizer)
    system, paper = "Review the paper.\nThe end.", "[TITLE]\nThe paper\n\n[CONTENT]\n the text"

    parts = [
        *template.encode_prefix(raw, system),
        *encode_text(raw, paper),
        *template.encode_suffix(raw),
    ]

    assert parts == raw.encode(template.render(system, paper), add_special_tokens=False).ids


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_every_special_token_in_a_text_is_spelled_out(tokenizer: str) -> None:
    raw = tokenizer_named(tokenizer)
    special = {i: token.content for i, token in raw.get_added_tokens_decoder().items()}
    text = "x" + " ".join(special.values()) + "".join(special.values())

    ids = encode_text(raw, text)

    assert special
    assert not special.keys() & set(ids)
    assert raw.decode(ids, skip_special_tokens=False) == text
    # And the tokenizer itself is left as it was.
    assert special.keys() <= set(raw.encode(text, add_special_tokens=False).ids)


def test_hash_covers_all_but_the_name() -> None:
    assert replace(LLAMA3, name="other").sha256 == LLAMA3.sha256
    assert replace(LLAMA3, end_of_turn="<|end_of_text|>").sha256 != LLAMA3.sha256
    assert len({template.sha256 for template in TEMPLATES.values()}) == len(TEMPLATES)
