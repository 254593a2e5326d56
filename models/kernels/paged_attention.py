"""Attention over a paged KV cache, registered with transformers.

A forward pass carries one of the two plans below as its keyword `paged`. A prefill is one prompt
that reads only itself; a decode step is one new token of each row, read against its cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from errors import MissingPart
from models.kernels.paged_cache import CacheKind, PagedCache, to_fp8

#: The name under which transformers finds `attend`.
ATTENTION = "referee_paged"


class AttentionKernel(Protocol):
    """Attention on tensors [row, token, head, dim]."""

    @property
    def block_tokens(self) -> int | None:
        """Tokens a block of the cache holds; None where a request must lie in one piece."""

    @property
    def capturable(self) -> bool:
        """May a step be captured in a CUDA graph?"""

    def prefill(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Causal attention of a whole prompt."""

    def decode(self, query: Tensor, layer: int, plan: DecodePlan, scale: float) -> Tensor:
        """Attention of one token a row to everything its cache holds."""


class PrefillDone(Exception):
    """Raised in the last layer of a prefill: only the prompt's keys and values are needed."""


@dataclass(frozen=True)
class PrefillPlan:
    """Where the tokens of a slot's prompt go: `slot_mapping` int64 [token].

    `non_finite` bool [] becomes true when the prompt's values are not finite: FlashAttention-3
    would read them from the cache as zeros.
    """

    kernel: AttentionKernel
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
        return self.kernel.prefill(query, key, value, scale)


@dataclass(frozen=True)
class DecodePlan:
    """Where each row's token goes, and how much of its cache it reads: `lengths` int32 [row].

    `host_lengths` repeats the lengths for kernels that need them on the host, else it is empty.
    """

    kernel: AttentionKernel
    cache: PagedCache
    slot_mapping: Tensor
    lengths: Tensor
    host_lengths: Sequence[int] = ()

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Store keys and values, and attend to the whole cache of each row."""
        keys, values = key.flatten(0, 1), value.flatten(0, 1)
        self.cache.write_step(layer, self.slot_mapping, keys, values)
        return self.kernel.decode(query, layer, self, scale)


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


class SdpaKernel:
    """PyTorch's own attention: works on every device, but one row at a time."""

    block_tokens = None
    capturable = False

    def prefill(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See AttentionKernel."""
        return _sdpa(query, key, value, scale, causal=True)

    def decode(self, query: Tensor, layer: int, plan: DecodePlan, scale: float) -> Tensor:
        """See AttentionKernel; a row's cache lies in one block."""
        cache = plan.cache
        kv_scales = cache.kv_scales_of(layer, len(query)) or (None, None)
        query = cache.rotate_query(query)
        rows = []
        for row, length in enumerate(plan.host_lengths):
            place = cache.first_block(row)
            key, value = (
                _read(pool[layer, place : place + 1, :length], unit, row, query.dtype)
                for pool, unit in zip((cache.keys, cache.values), kv_scales, strict=True)
            )
            rows.append(_sdpa(query[row : row + 1], key, value, scale, causal=False))
        return torch.cat(rows)


def _read(stored: Tensor, kv_scales: Tensor | None, row: int, dtype: torch.dtype) -> Tensor:
    """What a row stored, [1, token, head, dim], as the model computes."""
    if kv_scales is None:
        return stored
    return stored.to(dtype) * kv_scales[row, :, None].to(dtype)


def _sdpa(query: Tensor, key: Tensor, value: Tensor, scale: float, *, causal: bool) -> Tensor:
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    attended = scaled_dot_product_attention(
        query, key, value, is_causal=causal, scale=scale, enable_gqa=True
    )
    return attended.transpose(1, 2)


class FlashKernel:
    """FlashAttention 2 or 3 (Dao 2023, arXiv:2307.08691; Shah et al. 2024, arXiv:2407.08608)."""

    #: FlashAttention-2 takes multiples of 256 only; 3 reads them as fast as any other.
    block_tokens = 256
    capturable = True

    def __init__(self, library: Any) -> None:
        """`library` has flash_attn_func and flash_attn_with_kvcache."""
        self._atomic_file = library.flash_attn_func
        self._with_cache = library.flash_attn_with_kvcache
        parameters = inspect.signature(self._with_cache).parameters
        self._table = "page_table" if "page_table" in parameters else "block_table"

    def prefill(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See AttentionKernel."""
        return _first(self._atomic_file(query, key, value, softmax_scale=scale, causal=True))

    def decode(self, query: Tensor, layer: int, plan: DecodePlan, scale: float) -> Tensor:
        """See AttentionKernel."""
        cache = plan.cache
        kv_scales = cache.kv_scales_of(layer, len(query))
        descales = (
            {} if kv_scales is None else {"k_descale": kv_scales[0], "v_descale": kv_scales[1]}
        )
        attended = self._with_cache(
            query if kv_scales is None else to_fp8(cache.rotate_query(query)),
            cache.keys[layer],
            cache.values[layer],
            cache_seqlens=plan.lengths,
            softmax_scale=scale,
            causal=True,
            **{self._table: cache.tables[: len(query)]},
            **descales,
        )
        return _first(attended).to(query.dtype)


def _first(result: Any) -> Tensor:
    """Return the attention alone, from a version that gives the log-sum-exp beside it too."""
    attended: Tensor = result[0] if isinstance(result, tuple) else result
    return attended


#: Python packages of FlashAttention by transformers' names.
_LIBRARIES = {"flash_attention_3": "flash_attn_interface", "flash_attention_2": "flash_attn"}


def kernel_for(attention: str, kind: CacheKind = "bf16") -> AttentionKernel:
    """The kernel for a name from `models.kernels.device_support.choose_attention`.

    MissingPart when it cannot read a cache of this kind.
    """
    if kind == "fp8" and attention == "flash_attention_2":
        raise MissingPart(
            "FlashAttention-2 cannot read keys and values in eight bits: set REFEREE_KV_CACHE=bf16."
        )
    library = _LIBRARIES.get(attention)
    return SdpaKernel() if library is None else FlashKernel(import_module(library))
