"""Triton kernel that rounds rows to e4m3."""

from __future__ import annotations

import triton
import triton.language as tl

from models.kernels.fp8_product import LARGEST_FP8, MIN_LIMIT

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
