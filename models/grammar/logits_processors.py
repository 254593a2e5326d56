"""Guidance, suppression and sampling as one step on a batch.

Rows of one batch may differ in everything: aspect set, guided or not, suppression, sampling, seed
and limit. An engine keeps a state [B, 3] of small integers: `initial_state`, then in each step
`process_scores`, and `advance` by the sampled token. All are pure functions of tensors with fixed
shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from errors import RequestRefused
from models.grammar.sampling import (
    SEED_MASK,
    add_gumbel_noise,
    apply_temperature,
    apply_top_p,
    sample_nucleus,
)
from models.grammar.suppression import suppress
from models.grammar.token_tables import (
    NODE,
    POSITION,
    GrammarTables,
    StartNodes,
    advance,
    allowed_tokens,
    initial_state,
)
from models.kernels.transfer import upload
from models.text.generation import GenerationRequest, Suppression

__all__ = [
    "GrammarTables",
    "ReviewProcessor",
    "SamplingMode",
    "SamplingRows",
    "build_processors",
    "process_scores",
    "sample_tokens",
]

#: Of an even share of the spare tokens, what every later aspect is sure to keep. Less than all, so
#: that an ordinary long aspect is not cut while later ones turn out short.
RESERVED_SHARE = 0.75
#: A legal token's score is never below this, so that it beats every illegal one (-inf) even after
#: division by a low temperature.
MIN_SCORE = -1e30
_OFF = Suppression(coefficient=1.0)


@dataclass(frozen=True)
class SamplingRows:
    """The requests of a batch as tensors [B]."""

    node: Tensor
    limit: Tensor
    share: Tensor
    coefficient: Tensor
    by_logit: Tensor
    temperature: Tensor
    top_p: Tensor
    seed: Tensor

    @classmethod
    def of(cls, requests: Sequence[GenerationRequest], tables: GrammarTables) -> SamplingRows:
        """RequestRefused when a guided review cannot be written in its max_new_tokens."""
        starts = [tables.start_of(request.form) for request in requests]
        pairs = list(zip(requests, starts, strict=True))
        suppressions = [request.suppression or _OFF for request in requests]
        columns = {
            "node": [s.guided_node if r.guided else s.free_node for r, s in pairs],
            "limit": [request.max_new_tokens for request in requests],
            "share": [_share(request, start) for request, start in pairs],
            "coefficient": [each.coefficient for each in suppressions],
            "by_logit": [each.mode == "logit" for each in suppressions],
            "temperature": [float(request.temperature) for request in requests],
            "top_p": [float(request.top_p) for request in requests],
            "seed": [request.seed & SEED_MASK for request in requests],
        }
        device = tables.next.device
        return cls(
            **{name: upload(torch.tensor(column), device) for name, column in columns.items()}
        )

    @classmethod
    def idle(cls, n_rows: int, tables: GrammarTables) -> SamplingRows:
        """Rows that are not in use; every token is legal in them."""
        start = next(iter(tables.starts.values()))
        columns: dict[str, float] = {
            "node": start.free_node,
            "limit": 1,
            "share": 0,
            "coefficient": 1.0,
            "by_logit": True,
            "temperature": 0.0,
            "top_p": 1.0,
            "seed": 0,
        }
        device = tables.next.device
        return cls(**{name: torch.full((n_rows,), v, device=device) for name, v in columns.items()})

    def first(self, n_rows: int) -> SamplingRows:
        """Views of the first rows."""
        return SamplingRows(**{name: column[:n_rows] for name, column in vars(self).items()})


def _share(request: GenerationRequest, start: StartNodes) -> int:
    """Tokens beyond the minimum that each later aspect keeps."""
    spare = request.max_new_tokens - start.minimum
    if request.guided and spare < 0:
        raise RequestRefused(
            f"a review of {start.n_aspects} aspects takes at least {start.minimum} tokens, "
            f"but max_new_tokens is {request.max_new_tokens}",
            kind="too_short",
        )
    return max(0, int(RESERVED_SHARE * spare / start.n_aspects))


class SamplingMode(IntEnum):
    """How much of sampling a request needs; a batch needs the most that any of its rows does."""

    #: The likeliest token.
    GREEDY = 0
    #: One of the likeliest tokens, since top-p leaves no others.
    NUCLEUS = 1
    #: Any token.
    FULL = 2

    @classmethod
    def of(cls, request: GenerationRequest) -> SamplingMode:
        """As the device will see it, in float32."""
        if np.float32(request.temperature) <= 0:
            return cls.GREEDY
        return cls.NUCLEUS if np.float32(request.top_p) < 1 else cls.FULL


def process_scores(
    tables: GrammarTables, rows: SamplingRows, state: Tensor, scores: Tensor
) -> Tensor:
    """The scores [B, V] in float32 whose argmax is each row's next token.

    In this order: grammar mask, suppression, temperature, top-p, seeded noise.
    """
    scores = apply_temperature(_guided(tables, rows, state, scores), rows.temperature)
    scores = apply_top_p(scores, rows.top_p)
    return add_gumbel_noise(scores, rows.seed, state[:, POSITION], rows.temperature)


def sample_tokens(
    tables: GrammarTables,
    rows: SamplingRows,
    state: Tensor,
    scores: Tensor,
    sampling_mode: SamplingMode,
) -> Tensor:
    """Each row's next token [B]: the argmax of `process_scores`, without what no row asks for.

    `sampling_mode` is the most that any row needs. Sampling from the whole vocabulary costs
    several passes over all scores, which at 100 rows is a twentieth of a step.
    """
    if sampling_mode is SamplingMode.FULL:
        return process_scores(tables, rows, state, scores).argmax(dim=-1)
    scores = _guided(tables, rows, state, scores)
    likeliest = scores.argmax(dim=-1)
    if sampling_mode is SamplingMode.GREEDY:
        return likeliest
    tempered = apply_temperature(scores, rows.temperature)
    drawn = sample_nucleus(tempered, rows.top_p, rows.seed, state[:, POSITION])
    return torch.where(rows.temperature > 0, drawn, likeliest)


def _guided(tables: GrammarTables, rows: SamplingRows, state: Tensor, scores: Tensor) -> Tensor:
    """Scores in float32 after the grammar's mask and suppression."""
    allowed = allowed_tokens(tables, state, rows.limit, rows.share, scores.shape[1])
    scores = torch.where(allowed, scores.float().clamp(min=MIN_SCORE), float("-inf"))
    return suppress(
        scores,
        tables.marker_token,
        tables.marker_next[state[:, NODE]] > 0,
        coefficient=rows.coefficient,
        by_logit=rows.by_logit,
        temperature=rows.temperature,
    )


class ReviewProcessor(LogitsProcessor):
    """For plain `generate(do_sample=False)`: every step is seen, beams and assistants are not."""

    def __init__(self, tables: GrammarTables, rows: SamplingRows, prompt_length: int) -> None:
        self._tables = tables
        self._rows = rows
        self._prompt_length = prompt_length
        self._state = initial_state(rows.node)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if input_ids.shape[1] == self._prompt_length:
            self._state = initial_state(self._rows.node)
        else:
            self._state = advance(self._tables, self._state, input_ids[:, -1])
        return process_scores(self._tables, self._rows, self._state, scores)


def build_processors(
    request: GenerationRequest, tables: GrammarTables, *, prompt_length: int
) -> LogitsProcessorList:
    """Processors for one request.

    A guided answer is complete and strictly parsable for any scores. Raises RequestRefused when
    that cannot be had in max_new_tokens.
    """
    rows = SamplingRows.of([request], tables)
    return LogitsProcessorList([ReviewProcessor(tables, rows, prompt_length)])
