"""The rate that a card's products and copies allow."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from models.engines.card_limit import CardRates, ModelShape, limit_papers_per_hour
from models.weights.random_weights import LLAMA31_8B

#: An H200, as measured for docs/gpu.md.
H200 = CardRates(790e12, 1466e12, 4.25e12)
SHAPE = ModelShape.of(LLAMA31_8B)
limit = partial(limit_papers_per_hour, shape=SHAPE, prompt_tokens=9_000, answer_tokens=700)


def test_shape_is_that_of_llama31_8b() -> None:
    assert SHAPE.parameters == 6_979_321_856
    assert SHAPE.attention_flops == 2 * 32 * 4096
    assert (SHAPE.cache_bytes("bf16"), SHAPE.cache_bytes("fp8")) == (131_072, 65_536)


def test_limit_is_the_sum_of_a_prompts_arithmetic_and_an_answers_bytes() -> None:
    prompt = (2 * 6.979e9 * 9_000 + 2 * 32 * 4096 * 9_000**2) / 790e12
    steps = 700 * (9_350 * 131_072 + 2 * 6.979e9 / 88) / 4.25e12
    found = limit(H200)
    assert abs(found / (3600 / (prompt + steps)) - 1) < 1e-3


@given(st.floats(1e13, 1e16), st.floats(1e11, 1e13), st.floats(1.0, 4.0))
def test_faster_cards_and_fewer_bytes_never_lower_the_limit(
    flops: float, rate: float, factor: float
) -> None:
    card = CardRates(flops, flops * factor, rate)
    exact = limit(card)
    assert limit(replace(card, flops=flops * 2)) > exact
    assert limit(replace(card, bytes=rate * 2)) > exact
    cached = limit(card, kv_cache="fp8")
    assert cached > exact
    assert limit(card, arithmetic="fp8") >= exact * 0.9999
    # A card without FP8 reads prompts in bf16
    plain = replace(card, fp8_flops=None)
    assert limit(plain, arithmetic="fp8") == exact
