"""Triton kernels that round to e4m3."""

from __future__ import annotations

import triton
import triton.language as tl

from models.kernels.fp8 import LARGEST_FP8, MIN_LIMIT

_LARGEST_FP8 = tl.constexpr(LARGEST_FP8)
_MIN_LIMIT = tl.constexpr(MIN_LIMIT)


@triton.jit
def quantise_row(
    rows: tl.tensor,
    values: tl.tensor,
    scales: tl.tensor,
    row_stride: int,
    n_columns: int,
    WIDTH: tl.constexpr,
) -> None:
    """Round one row to e4m3 in units of its scale; WIDTH is at least `n_columns`.

    Programs are [row]. `rows` is [row, n_columns], `values` the same and contiguous, `scales`
    [row]. A row with an infinite number gets an infinite scale, with which its products are NaN.
    """
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    live = column < n_columns
    numbers = tl.load(rows + row * row_stride + column, mask=live, other=0.0).to(tl.float32)
    limit = tl.max(tl.abs(numbers), 0)
    scale = tl.maximum(limit, _MIN_LIMIT) / _LARGEST_FP8
    tl.store(scales + row, scale)
    tl.store(
        values + row * n_columns + column, (numbers * (1.0 / scale)).to(tl.float8e4nv), mask=live
    )


@triton.jit
def store_token_in_units(
    keys: tl.tensor,
    values: tl.tensor,
    key_pool: tl.tensor,
    value_pool: tl.tensor,
    slot_mapping: tl.tensor,
    scales: tl.tensor,
    rows: tl.tensor,
    key_stride: int,
    value_stride: int,
    kind_stride: int,
    row_stride: int,
    ROWS: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    DIM: tl.constexpr,
) -> None:
    """Store one token's keys or values of all heads in units of its row's scales.

    Programs are [token, 2: keys, values]. Keys and values are [token, HEADS, DIM] with one stride
    between tokens, the pools [slot, HEADS, DIM]; `scales` is [2, row, HEADS]. Without ROWS all
    tokens are of the first row. WIDTH is a power of two, at least HEADS. What is too large is
    clipped.
    """
    token, kind = tl.program_id(0).to(tl.int64), tl.program_id(1)
    slot = tl.load(slot_mapping + token)
    head = tl.arange(0, WIDTH)
    live = head < HEADS
    place = head[:, None] * DIM + tl.arange(0, DIM)[None, :]
    if ROWS:
        scales += tl.load(rows + token) * row_stride
    unit = tl.load(scales + kind * kind_stride + head, mask=live, other=1.0)
    if kind == 0:
        _store_in_units(
            keys + token * key_stride, key_pool + slot * (HEADS * DIM), place, live, unit
        )
    else:
        _store_in_units(
            values + token * value_stride, value_pool + slot * (HEADS * DIM), place, live, unit
        )


@triton.jit
def _store_in_units(
    source: tl.tensor, target: tl.tensor, place: tl.tensor, live: tl.tensor, unit: tl.tensor
) -> None:
    numbers = tl.load(source + place, mask=live[:, None], other=0.0).to(tl.float32)
    # The conversion clips, but not in every version of Triton.
    scaled = tl.div_rn(numbers, tl.broadcast_to(unit[:, None], numbers.shape))
    clipped = tl.clamp(scaled, -_LARGEST_FP8, _LARGEST_FP8, propagate_nan=tl.PropagateNan.ALL)
    tl.store(target + place, clipped.to(tl.float8e4nv), mask=live[:, None])
