"""The small model's figures count only the text of items, not the tokens of the grammar."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.small_model import compare, item_mask
from models.text.aspects import FOUR
from models.text.parsing import render
from models.text.review import Item
from testing.tokenizers import smollm2
from trainer.data.pair_encoding import review_tokens


def test_only_the_text_of_items_is_counted() -> None:
    tokenizer = smollm2().tokenizer
    items = [
        Item("acceptance", 0, "Clear", "It is well written."),
        Item("rejection", 0, "Short", "Too short."),
    ]
    review = render(items, FOUR)
    tokens, mask = review_tokens(tokenizer, review), item_mask(tokenizer, review)
    assert len(tokens) == len(mask)
    counted = [token for token, wanted in zip(tokens, mask, strict=True) if wanted]
    text = tokenizer.decode(counted)
    assert "Clear> It is well written." in text
    assert "Short> Too short." in text
    assert not any(word in text for word in ("[", "<", "No related", "Potential"))


def test_interval_contains_the_difference_and_narrows() -> None:
    draw = np.random.default_rng(1)
    tokens = draw.integers(50, 150, 40).astype(float)
    without = np.stack([tokens * draw.normal(3.0, 0.2, 40), tokens], axis=1)
    tuned = without - np.stack([0.5 * tokens, 0 * tokens], axis=1)
    result = compare(without, tuned)
    assert result["difference"] == [pytest.approx(-0.5)] * 3
    low, high = result["untuned"][1:]
    assert low < result["untuned"][0] < high
