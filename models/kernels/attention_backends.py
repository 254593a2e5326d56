"""Implementations of attention for prompts and for decode steps."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

from models.kernels.decode_attention import (
    BLOCK_TOKENS,
    MAX_QUERIES,
    attend_cache,
    queries_without_cost,
)
from models.kernels.paged_attention import DecodePlan
from models.kernels.paged_cache import to_fp8

#: cuDNN makes a plan for each length, in 41 ms on an H200: prompts are padded to multiples of this.
_CUDNN_TOKENS = 128
#: Python packages of FlashAttention by transformers' names.
FLASH_PACKAGES = {"flash_attention_3": "flash_attn_interface", "flash_attention_2": "flash_attn"}


class SdpaPrompt:
    """PyTorch's attention with the implementation that PyTorch selects."""

    name = "sdpa"

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See PromptAttention."""
        return _sdpa(query, key, value, scale, causal=True)


class TorchFlashPrompt:
    """PyTorch's own FlashAttention-2."""

    name = "torch_flash"

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See PromptAttention."""
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
            return _sdpa(query, key, value, scale, causal=True)


class CudnnPrompt:
    """cuDNN's attention, which comes with PyTorch."""

    name = "cudnn"

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See PromptAttention."""
        n_tokens = query.shape[1]
        missing = -n_tokens % _CUDNN_TOKENS
        # Causal: no token attends to what follows it.
        query, key, value = (pad(each, (0, 0, 0, 0, 0, missing)) for each in (query, key, value))
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION]):
            return _sdpa(query, key, value, scale, causal=True)[:, :n_tokens]


class FlashPrompt:
    """FlashAttention 2 or 3 (Dao 2023, arXiv:2307.08691; Shah et al. 2024, arXiv:2407.08608)."""

    def __init__(self, name: str) -> None:
        """`name` is a key of FLASH_PACKAGES."""
        self.name = name
        self._attend = import_module(FLASH_PACKAGES[name]).flash_attn_func

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See PromptAttention."""
        return _first(self._attend(query, key, value, softmax_scale=scale, causal=True))


class SdpaStep:
    """PyTorch's attention: works on every device, but one row at a time."""

    name = "sdpa"
    block_tokens = None
    capturable = False

    def most_queries(self, group: int) -> int:
        """See StepAttention."""
        return MAX_QUERIES

    def __call__(self, query: Tensor, layer: int, plan: DecodePlan, scale: float) -> Tensor:
        """See StepAttention; a row's cache lies in one block."""
        cache, n_rows = plan.cache, len(plan.lengths)
        kv_scales = cache.kv_scales_of(layer, n_rows) or (None, None)
        query = cache.rotate_query(query)
        attended = torch.zeros_like(query)
        for row, (length, tokens) in enumerate(
            zip(plan.host_lengths, plan.host_tokens, strict=True)
        ):
            place, n_keys = cache.first_block(row), length + len(tokens) - 1
            key, value = (
                _read(pool[layer, place : place + 1, :n_keys], unit, row, query.dtype)
                for pool, unit in zip((cache.keys, cache.values), kv_scales, strict=True)
            )
            mask = None
            if len(tokens) > 1:
                position = torch.arange(n_keys, device=query.device)
                mask = position < length + torch.arange(len(tokens), device=query.device)[:, None]
            found = _sdpa(query[None, tokens], key, value, scale, causal=False, mask=mask)
            attended[tokens] = found[0]
        return attended


class TritonStep:
    """Our own kernels, see models.kernels.decode_attention."""

    name = "triton"
    block_tokens = BLOCK_TOKENS
    capturable = True

    def most_queries(self, group: int) -> int:
        """See StepAttention."""
        return queries_without_cost(group)

    def __call__(self, query: Tensor, layer: int, plan: DecodePlan, scale: float) -> Tensor:
        """See StepAttention."""
        cache, n_rows = plan.cache, len(plan.lengths)
        return attend_cache(
            cache.rotate_query(query),
            cache.keys[layer],
            cache.values[layer],
            cache.tables[:n_rows],
            plan.lengths,
            cache.kv_scales_of(layer, n_rows),
            scale,
            further=plan.further,
        )


class FlashStep:
    """FlashAttention 2 or 3 over the paged cache; 3 rounds queries to eight bits like the cache."""

    #: FlashAttention-2 takes multiples of 256 only; 3 reads them as fast as any other.
    block_tokens = 256
    capturable = True

    def __init__(self, name: str) -> None:
        """`name` is a key of FLASH_PACKAGES."""
        self.name = name
        self._attend = import_module(FLASH_PACKAGES[name]).flash_attn_with_kvcache
        parameters = inspect.signature(self._attend).parameters
        self._table = "page_table" if "page_table" in parameters else "block_table"

    def most_queries(self, group: int) -> int:
        """See StepAttention: all rows of a call have equally many."""
        return 1

    def __call__(self, query: Tensor, layer: int, plan: DecodePlan, scale: float) -> Tensor:
        """See StepAttention."""
        cache, query = plan.cache, query[:, None]
        kv_scales = cache.kv_scales_of(layer, len(query))
        descales = (
            {} if kv_scales is None else {"k_descale": kv_scales[0], "v_descale": kv_scales[1]}
        )
        attended = self._attend(
            query if kv_scales is None else to_fp8(cache.rotate_query(query)),
            cache.keys[layer],
            cache.values[layer],
            cache_seqlens=plan.lengths,
            softmax_scale=scale,
            causal=True,
            **{self._table: cache.tables[: len(query)]},
            **descales,
        )
        return _first(attended).to(query.dtype)[:, 0]


def _read(stored: Tensor, kv_scales: Tensor | None, row: int, dtype: torch.dtype) -> Tensor:
    """What a row stored, [1, token, head, dim], as the model computes."""
    if kv_scales is None:
        return stored
    return stored.to(dtype) * kv_scales[row, :, None].to(dtype)


def _sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    *,
    causal: bool,
    mask: Tensor | None = None,
) -> Tensor:
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    attended = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=True
    )
    return attended.transpose(1, 2)


def _first(result: Any) -> Tensor:
    """Return the attention alone, from a version that gives the log-sum-exp beside it too."""
    attended: Tensor = result[0] if isinstance(result, tuple) else result
    return attended
