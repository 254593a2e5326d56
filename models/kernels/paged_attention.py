"""Attention over a paged KV cache, registered with transformers.

A forward pass carries one of the two plans below as its keyword `paged`. A prefill is one prompt
that reads only itself; a decode step is one or a few new tokens of each row, read against its
cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor
from transformers import AttentionInterface

from models.kernels.decode_attention import FurtherTokens
from models.kernels.paged_cache import PagedCache

#: The name under which transformers finds `attend`.
ATTENTION = "referee_paged"


class PromptAttention(Protocol):
    """Causal attention of a whole prompt."""

    @property
    def name(self) -> str:
        """What reviews record."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Attend on tensors [1, token, head, dim]."""


class StepAttention(Protocol):
    """Attention of a decode step's tokens to everything their rows' cache holds."""

    @property
    def name(self) -> str:
        """What reviews record."""

    @property
    def block_tokens(self) -> int | None:
        """Tokens a block of the cache holds; None where a request must lie in one piece."""

    @property
    def capturable(self) -> bool:
        """Whether a step can be captured in a CUDA graph."""

    def most_queries(self, group: int) -> int:
        """Query tokens of a row that a step should read at most.

        `group` is the number of query heads that share a key-value head.
        """

    def __call__(self, query: Tensor, layer: int, plan: DecodePlan, scale: float) -> Tensor:
        """Attend on a tensor [token, head, dim]: the plan says which row each token belongs to."""


class PrefillDone(Exception):
    """Raised in the last layer of a prefill: only the prompt's keys and values are needed."""


@dataclass(frozen=True)
class PrefillPlan:
    """Where the tokens of a slot's prompt go: `slot_mapping` int64 [token].

    `non_finite` bool [] becomes true when the prompt's values are not finite: FlashAttention-3
    would read them from the cache as zeros.
    """

    attention: PromptAttention
    cache: PagedCache
    slot: int
    slot_mapping: Tensor
    non_finite: Tensor

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Store keys and values, and attend to the prompt itself; PrefillDone in the last layer."""
        keys, values = key.flatten(0, 1), value.flatten(0, 1)
        self.cache.write_prompt(layer, self.slot, self.slot_mapping, keys, values)
        if layer == self.cache.n_layers - 1:
            # Non-finite values propagate through all later layers.
            self.non_finite.copy_(not_finite(keys.flatten()) | not_finite(values.flatten()))
            raise PrefillDone
        return self.attention(query, key, value, scale)


@dataclass(frozen=True)
class DecodePlan:
    """Where a step's tokens go, and how much of its cache each row reads.

    `rows` and `slot_mapping` are int64 [token], `lengths` int32 [row]: a row's first token reads so
    much of the cache, each `further` one of the row a token more.
    """

    attention: StepAttention
    cache: PagedCache
    rows: Tensor
    slot_mapping: Tensor
    lengths: Tensor
    further: FurtherTokens | None = None

    @cached_property
    def host_lengths(self) -> Sequence[int]:
        """The lengths for kernels that need them on the host; waits for the device."""
        lengths: list[int] = self.lengths.tolist()
        return lengths

    @cached_property
    def host_tokens(self) -> Sequence[Sequence[int]]:
        """The indices of each row's tokens, on the host; waits for the device."""
        if self.further is None:
            return [[row] for row in range(len(self.lengths))]
        pairs = zip(
            self.further.first_further.tolist(), self.further.n_further.tolist(), strict=True
        )
        return [[row, *range(first, first + n)] for row, (first, n) in enumerate(pairs)]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Store keys and values, and attend to the whole cache of each row."""
        query, key, value = (tensor.flatten(0, 1) for tensor in (query, key, value))
        self.cache.write_step(layer, self.slot_mapping, key, value, self.rows)
        return self.attention(query, layer, self, scale)[:, None]


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    scaling: float,
    paged: PrefillPlan | DecodePlan,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend as the plan says. Tensors come as [row, head, token, dim]."""
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    return paged.attend(module.layer_idx, query, key, value, scaling), None


AttentionInterface.register(ATTENTION, attend)


def not_finite(numbers: Tensor) -> Tensor:
    """Where a tensor holds anything infinite or NaN in its last dimension."""
    # Both are NaN if any value is; one pass instead of four.
    least, most = numbers.aminmax(dim=-1)
    return ~(least.isfinite() & most.isfinite())
