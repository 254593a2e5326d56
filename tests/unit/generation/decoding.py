"""Runs the processors the way an engine does, without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.grammar.logits_processors import SamplingMode, SamplingRows, sample_tokens
from models.grammar.token_tables import GrammarTables, advance, initial_state
from models.text.generation import GenerationRequest

#: Gives the raw scores [B, V] of a step, from the step's number.
Scores = Callable[[int], Tensor]


def decode(
    tables: GrammarTables, requests: Sequence[GenerationRequest], scores: Scores
) -> list[list[int]]:
    """The tokens of each request, up to its limit or with its end token."""
    rows = SamplingRows.of(requests, tables)
    mode = max(map(SamplingMode.of, requests))
    state = initial_state(rows.node)
    steps = []
    for step in range(max(request.max_new_tokens for request in requests)):
        steps.append(sample_tokens(tables, rows, state, scores(step), mode))
        state = advance(tables, state, steps[-1])
    return [
        _answer(tokens, tables.end_token_id, request.max_new_tokens)
        for tokens, request in zip(torch.stack(steps, dim=1).tolist(), requests, strict=True)
    ]


def _answer(tokens: list[int], end: int, limit: int) -> list[int]:
    length = tokens.index(end) + 1 if end in tokens else len(tokens)
    return tokens[: min(length, limit)]
