"""Attention of a decode step over a paged cache, by Triton kernels.

One to eight query tokens a row attend to keys and values in bf16, float16, float32 or e4m3. A
program reads one key-value head of 1,024 tokens, for all query heads that share it and all query
tokens of the row; a second kernel
adds the programs' results up (split keys: Dao et al. 2023, Flash-Decoding; grouped queries: Ainslie
et al. 2023, arXiv:2305.13245). e4m3 is converted to float16 in registers, so it needs no float8
arithmetic, and the queries are not rounded to eight bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from models.kernels.device_support import triton_unavailable
from models.kernels.fp8 import FP8

#: Tokens of a block of the cache.
BLOCK_TOKENS = 256
#: Query tokens of a row in one call, at most.
MAX_QUERIES = 8
#: Widths of a head that the kernels have been tested with.
HEAD_DIMS = (64, 128)
#: Oldest supported compute capability, Ampere: its asynchronous copies keep the memory busy.
MIN_CAPABILITY = (8, 0)
#: Rows of the smallest product on tensor cores.
_SMALLEST_ROWS = 16


@dataclass(frozen=True)
class _Tile:
    """Tokens that are read at a time, and how many such reads are in flight."""

    tokens: int
    stages: int


#: By bytes of a number in the cache. Of 11 and 13 shapes on an H200 within 0.3 % of the fastest for
#: two bytes, and the fastest for one; four bytes are for tests. At a head of 128 they take 70 and
#: 72 KiB of shared memory: cards since Ampere have 99 KiB at least.
_TILES = {1: _Tile(128, 3), 2: _Tile(64, 3), 4: _Tile(32, 2)}
_WARPS = 4


def unavailable(device: torch.device, head_dim: int) -> str:
    """Why these kernels cannot be used for heads of this width on this device; "" if they can."""
    if device.type != "cuda":
        return "no GPU"
    if torch.cuda.get_device_capability(device) < MIN_CAPABILITY:
        return "compute capability below 8.0"
    if head_dim not in HEAD_DIMS:
        return f"heads of {head_dim} numbers"
    return triton_unavailable()


@dataclass(frozen=True)
class FurtherTokens:
    """The tokens that a step reads beyond one of each row.

    A step's tokens are first one of each row, in the rows' order, and then these. `n_further` int32
    [row] is how many a row has, at most `most`, and `first_further` int32 [row] the index of its
    first one among all tokens of the step. `totals` int32 [token] is how much of the cache each
    token's row reads, 0 for a further token that no row has: the number of tokens is fixed by a
    CUDA graph.
    """

    n_further: Tensor
    first_further: Tensor
    totals: Tensor
    most: int


def queries_without_cost(group: int) -> int:
    """Query tokens of a row that take no more time than one, for `group` query heads a key head.

    They fill the rows of the smallest product on tensor cores.
    """
    return max(1, min(MAX_QUERIES, _SMALLEST_ROWS // group))


def attend_cache(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    lengths: Tensor,
    kv_scales: tuple[Tensor, Tensor] | None,
    scale: float,
    *,
    further: FurtherTokens | None = None,
    ptx: bool = True,
) -> Tensor:
    """Attend with `query`, [token, head, dim], to each row's cache; a tensor of its shape.

    `keys` and `values` are [block, BLOCK_TOKENS, key-value head, dim], `tables` int32 [row, block],
    `lengths` int32 [row]: a row's first query token sees the first `lengths` keys, each further one
    a key more. In e4m3, `kv_scales` are the factors of keys and values, float32 [row, key-value
    head], rows apart alike. A row's result does not depend on the other rows, nor on their number.
    Does not synchronise, and may be captured in a CUDA graph.
    """
    from models.kernels.decode_attention_kernel import SPLIT_BLOCKS, attend_split, combine_splits

    n_tokens, n_heads, dim = query.shape
    n_kv_heads, n_blocks = keys.shape[2], tables.shape[1]
    most = 1 if further is None else 1 + further.most
    if most > MAX_QUERIES:
        raise ValueError(f"{most} query tokens a row, {MAX_QUERIES} at most")
    group, n_splits = n_heads // n_kv_heads, ceil(n_blocks / SPLIT_BLOCKS)
    dtype = keys.dtype
    if dtype == FP8:
        # Two numbers an element: tensor cores' operands are then read without a transposition.
        keys, values = keys.view(torch.int16), values.view(torch.int16)
    # Unused in other types.
    key_scales, value_scales = kv_scales or (lengths, lengths)
    partial = torch.empty(n_tokens * n_heads, n_splits, dim, device=query.device)
    log_sums = torch.empty(n_tokens * n_heads, n_splits, device=query.device)
    query = query.contiguous()
    output = torch.empty_like(query)
    attend_split[(n_kv_heads, n_splits, len(lengths))](
        query,
        keys,
        values,
        tables,
        lengths,
        lengths if further is None else further.n_further,
        lengths if further is None else further.first_further,
        key_scales,
        value_scales,
        partial,
        log_sums,
        scale,
        n_blocks,
        *keys.stride()[:3],
        key_scales.stride(0),
        n_splits,
        **split_constants(dtype, most, group, dim, ptx=ptx),
    )
    combine_splits[(n_heads, n_tokens)](
        partial,
        log_sums,
        lengths if further is None else further.totals,
        output,
        n_splits,
        DIM=dim,
        SPLIT=SPLIT_BLOCKS * BLOCK_TOKENS,
        SPLITS=_power_of_two(n_splits),
        num_warps=_WARPS,
    )
    return output


def split_constants(
    dtype: torch.dtype, n_queries: int, group: int, dim: int, *, ptx: bool = True
) -> dict[str, int]:
    """What `attend_split` is compiled for: a cache in `dtype`, `group` query heads a key head."""
    tile = _TILES[dtype.itemsize]
    return {
        "FP8": dtype == FP8,
        "PTX": ptx,
        "QUERIES": n_queries,
        "GROUP": group,
        "ROWS": max(_SMALLEST_ROWS, _power_of_two(n_queries * group)),
        "DIM": dim,
        "BLOCK": BLOCK_TOKENS,
        "TILE": tile.tokens,
        "STAGES": tile.stages,
        "num_warps": _WARPS,
    }


def _power_of_two(number: int) -> int:
    """The smallest one that is not smaller."""
    return 1 << (number - 1).bit_length()
