"""Triton kernels for NF4 matrices."""

from __future__ import annotations

import triton
import triton.language as tl

from models.kernels.fp8 import LARGEST_FP8, MIN_LIMIT
from models.kernels.nf4_dequantise import dequantise_asm
from models.kernels.nf4_tiling import BLOCK_WEIGHTS, RANK_STEP, SMALLEST_TILE

_BLOCK_WEIGHTS = tl.constexpr(BLOCK_WEIGHTS)
_BLOCK_BYTES = tl.constexpr(BLOCK_WEIGHTS // 2)
_SMALLEST_TILE = tl.constexpr(SMALLEST_TILE)
_RANK_STEP = tl.constexpr(RANK_STEP)
_LARGEST_FP8 = tl.constexpr(LARGEST_FP8)
_MIN_LIMIT = tl.constexpr(MIN_LIMIT)
_DEQUANTISE = tl.constexpr(dequantise_asm())
# Written before all inputs are read, so it must not share their registers.
_REGISTERS = tl.constexpr("=&r,=&r,=&r,=&r,r,r,r,r,r,r,r,r,r")


@triton.jit
def _dequantise(both: tl.tensor, scale: tl.tensor) -> tl.tensor:
    """Weights of even and of odd inputs, like `both`, from bytes and their blocks' scales."""
    upper = (scale & -65536) | ((scale >> 16) & 65535)
    lower = (scale << 16) | (scale & 65535)
    return tl.inline_asm_elementwise(
        _DEQUANTISE,
        _REGISTERS,
        [both, upper, lower],
        dtype=(tl.bfloat16, tl.bfloat16),
        is_pure=True,
        pack=4,
    )


@triton.jit
def _add_low_rank(
    total: tl.tensor, left: tl.tensor, right: tl.tensor, live: tl.tensor, n_ranks: int, step: int
) -> tl.tensor:
    """Add a product over ranks, some at a time: `left` lie side by side, `right` `step` apart."""
    for _ in tl.range(0, n_ranks, _RANK_STEP, num_stages=1):
        total = tl.dot(tl.load(left), tl.load(right, mask=live, other=0.0), total)
        left += _RANK_STEP
        right += step
    return total


@triton.jit(do_not_specialize=["n_blocks", "n_ranks", "up_stride"])
def dequantise_tiles(
    packed: tl.tensor,
    scales: tl.tensor,
    limits: tl.tensor,
    up: tl.tensor,
    down: tl.tensor,
    down_limits: tl.tensor,
    weights: tl.tensor,
    row_scales: tl.tensor,
    n_blocks: int,
    scales_stride: int,
    n_ranks: int,
    up_stride: int,
    ADDED: tl.constexpr,
    FP8: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCKS: tl.constexpr,
) -> None:
    """Write some blocks of some outputs out; if ADDED, with `up` times `down` added.

    Programs are [tile of outputs, tile of blocks]. `packed` is [output, block, 32], `scales`
    [block, output], `up` [output, rank], `down` [rank, input] and `weights` [output, input]. If
    FP8, weights are e4m3 in units of `row_scales` [output], which are written too: the largest
    absolute values are at most `limits` [output] plus |`up`| times `down_limits` [rank].
    """
    feature = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    first = tl.program_id(1) * BLOCKS
    block = first + tl.arange(0, BLOCKS)
    byte = tl.arange(0, _BLOCK_BYTES)
    live = (block < n_blocks)[None, :]
    scale = tl.load(scales + block[None, :] * scales_stride + feature[:, None], mask=live, other=0)
    place = (feature[:, None] * n_blocks + block[None, :])[:, :, None]
    live = live[:, :, None]
    both = tl.load(packed + place * _BLOCK_BYTES + byte[None, None, :], mask=live, other=0)
    even, odd = _dequantise(both, scale[:, :, None])
    written = tl.reshape(tl.interleave(even, odd), (OUTPUTS, BLOCKS * _BLOCK_WEIGHTS))
    n_inputs = n_blocks * _BLOCK_WEIGHTS
    input = first * _BLOCK_WEIGHTS + tl.arange(0, BLOCKS * _BLOCK_WEIGHTS)
    live = (input < n_inputs)[None, :]
    if ADDED:
        rank = tl.arange(0, _RANK_STEP)
        left = up + feature[:, None] * tl.multiple_of(up_stride, _RANK_STEP) + rank[None, :]
        right = down + rank[:, None] * n_inputs + input[None, :]
        total = written.to(tl.float32)
        total = _add_low_rank(total, left, right, live, n_ranks, _RANK_STEP * n_inputs)
        written = total.to(tl.bfloat16)
    if FP8:
        limit = tl.load(limits + feature)
        if ADDED:
            for start in range(0, n_ranks, _RANK_STEP):
                part = tl.abs(tl.load(left + start).to(tl.float32))
                limit += tl.sum(part * tl.load(down_limits + start + rank)[None, :], 1)
        unit = tl.maximum(limit, _MIN_LIMIT) / _LARGEST_FP8
        if first == 0:
            tl.store(row_scales + feature, unit)
        written = (written.to(tl.float32) * (1.0 / unit)[:, None]).to(tl.float8e4nv)
    tl.store(weights + feature[:, None] * n_inputs + input[None, :], written, mask=live)


@triton.jit(do_not_specialize=["n_rows", "n_parts", "n_ranks", "n_inner"])
def multiply_tiles(
    rows: tl.tensor,
    packed: tl.tensor,
    scales: tl.tensor,
    offsets: tl.tensor,
    inner: tl.tensor,
    up: tl.tensor,
    output: tl.tensor,
    sums: tl.tensor,
    part_counters: tl.tensor,
    n_rows: int,
    n_outputs: int,
    n_inputs: int,
    n_parts: int,
    n_ranks: int,
    n_inner: int,
    ADDED: tl.constexpr,
    OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    """Sum one piece over one part of the inputs; the last part's block adds all parts up.

    Programs are [tile of outputs, part of the inputs, tile of rows]. `rows` is [row, block, 2, 32]:
    a block's even inputs, then its odd ones. `packed` is [output, input / 2], `scales` [block,
    output], `offsets` [output / 64, 3] as in Nf4Matrix, `sums` [part, row, output],
    `part_counters` a
    zero for each piece. `output` has each matrix's [row, output] after the other's; if ADDED, with
    `inner`, [row, matrix, rank] with `n_inner` numbers a row, times `up`, [output, rank], added.
    """
    tile, part, row_tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    feature = tile * OUTPUTS + tl.arange(0, OUTPUTS)
    row = row_tile * ROWS + tl.arange(0, ROWS)
    live = row[None, :] < n_rows
    offsets += tile * (OUTPUTS // _SMALLEST_TILE) * 3
    total = tl.zeros((OUTPUTS, ROWS), tl.float32)
    if ADDED:
        rank = tl.arange(0, _RANK_STEP)
        n_ranks = tl.multiple_of(n_ranks, _RANK_STEP)
        left = up + feature[:, None] * n_ranks + rank[None, :]
        right = inner + row[None, :] * tl.multiple_of(n_inner, _RANK_STEP) + rank[:, None]
        right += tl.load(offsets + 2) * n_ranks
        # One of the parts adds it.
        n_added = tl.where(part == 0, n_ranks, 0)
        total = _add_low_rank(total, left, right, live, n_added, _RANK_STEP)
    n_blocks = n_inputs // _BLOCK_WEIGHTS // n_parts
    first = part * n_blocks
    byte = tl.arange(0, _BLOCK_BYTES)
    packed += feature[:, None] * (n_inputs // 2) + (first * _BLOCK_BYTES + byte)[None, :]
    rows += row[None, :] * n_inputs + (first * _BLOCK_WEIGHTS + byte)[:, None]
    scales += first * n_outputs + feature
    total = _add_blocks(total, packed, scales, rows, live, n_blocks, n_outputs)
    start = tl.multiple_of(tl.load(offsets), _SMALLEST_TILE)
    width = tl.multiple_of(tl.load(offsets + 1), _SMALLEST_TILE)
    output += n_rows * start + row[None, :] * width + (feature - start)[:, None]
    if n_parts == 1:
        tl.store(output, total.to(tl.bfloat16), mask=live)
    else:
        place = sums + row[None, :] * n_outputs + feature[:, None]
        piece = part_counters + row_tile * tl.num_programs(0) + tile
        _add_up(total, place, piece, output, live, part, n_parts, n_rows * n_outputs)


@triton.jit
def _add_blocks(
    total: tl.tensor,
    packed: tl.tensor,
    scales: tl.tensor,
    rows: tl.tensor,
    live: tl.tensor,
    n_blocks: int,
    n_outputs: int,
) -> tl.tensor:
    """Add the products of blocks that follow each other, from where the pointers are."""
    for _ in range(n_blocks):
        both = tl.load(packed)
        scale = tl.load(scales)
        even, odd = _dequantise(both, scale[:, None])
        total = tl.dot(even, tl.load(rows, mask=live, other=0.0), total)
        total = tl.dot(odd, tl.load(rows + _BLOCK_BYTES, mask=live, other=0.0), total)
        packed += _BLOCK_BYTES
        rows += _BLOCK_WEIGHTS
        scales += n_outputs
    return total


@triton.jit
def _add_up(
    total: tl.tensor,
    place: tl.tensor,
    part_counters: tl.tensor,
    output: tl.tensor,
    live: tl.tensor,
    part: int,
    n_parts: int,
    step: int,
) -> None:
    """Leave a part's sum at its `place`; the last of a piece adds all up, in the parts' order."""
    tl.store(place + part * step, total, mask=live)
    # All threads must have written their sums before the counter is increased.
    tl.debug_barrier()
    if tl.atomic_add(part_counters, 1, sem="acq_rel") == n_parts - 1:
        whole = tl.zeros_like(total)
        for other in range(n_parts):
            whole += tl.load(place + other * step, mask=live, cache_modifier=".cg")
        tl.store(output, whole.to(tl.bfloat16), mask=live)
        tl.store(part_counters, 0)
