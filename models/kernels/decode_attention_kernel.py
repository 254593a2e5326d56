"""Triton kernels of attention over a paged cache for decode steps."""

from __future__ import annotations

import triton
import triton.language as tl

#: Blocks of the cache that one program attends to. Fixed, so that a row's result does not depend on
#: how many rows a step has. On an H200, 1,024 tokens a program instead of 256 read bf16 5 % and
#: e4m3 32 % faster.
SPLIT_BLOCKS = 4
_SPLIT_BLOCKS = tl.constexpr(SPLIT_BLOCKS)
_LOG2_E = tl.constexpr(1.4426950408889634)
# An e4m3 byte whose bits are moved to those of a float16 is 2**-8 times its value: the exponents'
# biases are 7 and 15.
_E4M3_FACTOR = tl.constexpr(256.0)
# Of two pairs of bytes, give the lower ones as two float16 and then the upper ones.
_SPLIT_E4M3 = tl.constexpr(
    "{.reg .b32 lower, bits;"
    "shl.b32 lower, $2, 8;"
    "shr.u32 bits, lower, 1;"
    "and.b32 bits, bits, 0x3f803f80;"
    "lop3.b32 $0, lower, 0x80008000, bits, 0xea;"  # (lower & 0x80008000) | bits
    "shr.u32 bits, $2, 1;"
    "and.b32 bits, bits, 0x3f803f80;"
    "lop3.b32 $1, $2, 0x80008000, bits, 0xea;}"
)


@triton.jit
def _split_e4m3(pairs: tl.tensor, PTX: tl.constexpr) -> tl.tensor:
    """Convert int16 pairs of e4m3 numbers: the lower bytes' values over 256, and the upper ones'.

    Without PTX, which the interpreter does not have, a step's attention takes 31 % longer.
    """
    if PTX:
        return tl.inline_asm_elementwise(
            _SPLIT_E4M3,
            "=&r,=&r,r",
            [pairs],
            dtype=(tl.float16, tl.float16),
            is_pure=True,
            pack=2,
        )
    lower = ((pairs << 8) & -0x8000) | ((pairs << 7) & 0x3F80)
    upper = (pairs & -0x8000) | ((pairs >> 1) & 0x3F80)
    return (
        lower.to(tl.int16).to(tl.float16, bitcast=True),
        upper.to(tl.int16).to(tl.float16, bitcast=True),
    )


@triton.jit(do_not_specialize=["n_splits", "n_blocks"])
def attend_split(
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    tables: tl.tensor,
    lengths: tl.tensor,
    n_further: tl.tensor,
    first_further: tl.tensor,
    key_scales: tl.tensor,
    value_scales: tl.tensor,
    partial: tl.tensor,
    log_sums: tl.tensor,
    scale: float,
    n_blocks: int,
    block_stride: int,
    token_stride: int,
    head_stride: int,
    scale_stride: int,
    n_splits: int,
    FP8: tl.constexpr,
    PTX: tl.constexpr,
    QUERIES: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    STAGES: tl.constexpr,
) -> None:
    """Attend with the queries of one key-value head to SPLIT_BLOCKS blocks of one row's cache.

    Programs are [key-value head, split, row]. `query` is [token, head, DIM]: row r's tokens are
    token r and, if QUERIES is more than one, `n_further[r]` tokens from `first_further[r]` on; the
    i-th of them attends to its first `lengths[r] + i` keys. `keys` and `values` are one layer of a
    PagedCache; with FP8 both are int16, two numbers each, and `key_scales` and `value_scales` are
    [row, key-value head] with `scale_stride` between rows. `tables` is [row, n_blocks]. The
    normalised result of a split goes to `partial`, float32 [token, head, n_splits, DIM], and the
    base-2 logarithm of its sum of exponentials to `log_sums`, [token, head, n_splits].
    """
    kv_head, split, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(lengths + row)
    further = tl.load(n_further + row) if QUERIES > 1 else 0
    # What the row's last query token attends to.
    total = length + further
    first = split * (_SPLIT_BLOCKS * BLOCK)
    if first >= total:
        return
    last = tl.minimum(first + _SPLIT_BLOCKS * BLOCK, total)
    # Entries beyond a row's last block are never used: they are loaded as SCRATCH.
    tables += row * n_blocks
    entry = split * _SPLIT_BLOCKS
    block_0 = tl.load(tables + entry)
    block_1 = tl.load(tables + entry + 1, mask=entry + 1 < n_blocks, other=0)
    block_2 = tl.load(tables + entry + 2, mask=entry + 2 < n_blocks, other=0)
    block_3 = tl.load(tables + entry + 3, mask=entry + 3 < n_blocks, other=0)
    # The queries of all heads of the group, padded to what tensor cores take.
    member = tl.arange(0, ROWS)
    number = member // GROUP
    live = number <= further
    token = row
    if QUERIES > 1:
        token = tl.where(number == 0, row, tl.load(first_further + row) + number - 1)
    place = (token * tl.num_programs(0) + kv_head) * GROUP + member % GROUP
    visible = length + number
    # Columns of the cache as it is read: with FP8 a column holds an even and an odd channel.
    COLUMNS: tl.constexpr = DIM // 2 if FP8 else DIM
    column = tl.arange(0, COLUMNS)
    channel = query + place[:, None] * DIM
    exponent = scale * _LOG2_E
    if FP8:
        even = tl.load(channel + 2 * column[None, :], mask=live[:, None], other=0.0)
        odd = tl.load(channel + 2 * column[None, :] + 1, mask=live[:, None], other=0.0)
        even, odd = even.to(tl.float16), odd.to(tl.float16)
        exponent *= _E4M3_FACTOR * tl.load(key_scales + row * scale_stride + kv_head)
        sum_odd = tl.zeros((ROWS, COLUMNS), tl.float32)
    else:
        whole = tl.load(channel + column[None, :], mask=live[:, None], other=0.0)
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    largest = tl.full((ROWS,), float("-inf"), tl.float32)
    norm = tl.zeros((ROWS,), tl.float32)
    position = tl.arange(0, TILE)
    offsets = position[:, None] * token_stride + column[None, :] + kv_head * head_stride
    for start in tl.range(first, last, TILE, num_stages=STAGES):
        index = (start - first) // BLOCK
        block = tl.where(index == 0, block_0, block_1)
        block = tl.where(index == 2, block_2, block)
        block = tl.where(index == 3, block_3, block)
        tile = block.to(tl.int64) * block_stride + (start % BLOCK) * token_stride + offsets
        key = tl.load(keys + tile)
        if FP8:
            key_even, key_odd = _split_e4m3(key, PTX)
            scores = tl.dot(even, key_even.T)
            scores = tl.dot(odd, key_odd.T, scores)
        else:
            scores = tl.dot(whole, key.T, input_precision="ieee")
        hidden = (start + position)[None, :] >= visible[:, None]
        scores = tl.where(hidden, float("-inf"), scores * exponent)
        now_largest = tl.maximum(largest, tl.max(scores, 1))
        # Nothing is visible yet to a query of a row of which only later ones reach this split.
        finite = tl.where(now_largest == float("-inf"), 0.0, now_largest)
        weights = tl.exp2(scores - finite[:, None])
        shrink = tl.exp2(largest - finite)
        norm = norm * shrink + tl.sum(weights, 1)
        largest = now_largest
        # Zeros, since what another request left here may be NaN, and its weight is zero.
        value = tl.load(values + tile, mask=(start + position < total)[:, None], other=0)
        if FP8:
            value_even, value_odd = _split_e4m3(value, PTX)
            weights = weights.to(tl.float16)
            sums = tl.dot(weights, value_even, sums * shrink[:, None])
            sum_odd = tl.dot(weights, value_odd, sum_odd * shrink[:, None])
        else:
            weights = weights.to(value.dtype)
            sums = tl.dot(weights, value, sums * shrink[:, None], input_precision="ieee")
    norm = tl.where(norm == 0.0, 1.0, norm)
    factor = 1.0 / norm
    result = partial + (place * n_splits + split)[:, None] * DIM
    if FP8:
        factor *= _E4M3_FACTOR * tl.load(value_scales + row * scale_stride + kv_head)
        tl.store(result + 2 * column[None, :], sums * factor[:, None], mask=live[:, None])
        tl.store(result + 2 * column[None, :] + 1, sum_odd * factor[:, None], mask=live[:, None])
    else:
        tl.store(result + column[None, :], sums * factor[:, None], mask=live[:, None])
    tl.store(log_sums + place * n_splits + split, largest + tl.log2(norm), mask=live)


@triton.jit(do_not_specialize=["n_splits"])
def combine_splits(
    partial: tl.tensor,
    log_sums: tl.tensor,
    totals: tl.tensor,
    output: tl.tensor,
    n_splits: int,
    DIM: tl.constexpr,
    SPLIT: tl.constexpr,
    SPLITS: tl.constexpr,
) -> None:
    """Add the results of all splits of SPLIT tokens, weighted by their sums of exponentials.

    Programs are [head, token]; `output` is [token, head, DIM]. `totals` [token] is how much of the
    cache the token's row has read, 0 for a token without a row, whose output is zeros. SPLITS is a
    power of two that is not smaller than `n_splits`.
    """
    place = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    total = tl.load(totals + tl.program_id(1))
    split = tl.arange(0, SPLITS)
    written = split * SPLIT < total
    log_sum = tl.load(log_sums + place * n_splits + split, mask=written, other=float("-inf"))
    weight = tl.exp2(log_sum - tl.max(log_sum, 0))
    column = tl.arange(0, DIM)
    parts = partial + (place * n_splits + split)[:, None] * DIM + column[None, :]
    sums = tl.sum(tl.load(parts, mask=written[:, None], other=0.0) * weight[:, None], 0)
    result = tl.where(total > 0, sums / tl.sum(weight, 0), 0.0)
    tl.store(output + place * DIM + column, result.to(output.dtype.element_ty))
