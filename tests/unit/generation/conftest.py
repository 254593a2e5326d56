"""Grammar tables of every test tokenizer, and requests to use them with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch

from models.grammar.token_tables import GrammarTables
from models.text.aspects import FOUR, SEVEN
from models.text.generation import GenerationRequest
from testing.generation_requests import chat
from testing.tokenizers import TOKENIZERS


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: with two, the small steps slow each other down beside other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def tables_of(name: str) -> GrammarTables:
    """Tables by the tokenizer's name, built once a session."""
    each = TOKENIZERS[name]()
    return GrammarTables.build(each.tokenizer, (SEVEN, FOUR), each.end_token_id)


@pytest.fixture
def make_request() -> Callable[..., GenerationRequest]:
    """A request with the options that a test needs."""

    def make(**given: Any) -> GenerationRequest:
        defaults: dict[str, Any] = {
            "id": "r",
            "messages": chat(),
            "form": SEVEN,
            "guided": True,
            "template": "chatml",
            "max_prompt_tokens": 100,
            "max_new_tokens": 600,
        }
        return GenerationRequest(**(defaults | given))

    return make
