"""The kernels of NF4 matrices, in Triton; know neither PyTorch nor how pieces are chosen."""

from __future__ import annotations

import triton
import triton.language as tl

from models.nf4_product import BLOCK_WEIGHTS, SMALLEST_TILE, assembly

_BLOCK_BYTES = tl.constexpr(BLOCK_WEIGHTS // 2)
_SMALLEST_TILE = tl.constexpr(SMALLEST_TILE)
_DEQUANTISE = tl.constexpr(assembly())
# Written before all inputs are read, so in registers of their own.
_REGISTERS = tl.constexpr("=&r,=&r,=&r,=&r,r,r,r,r,r,r,r,r,r")


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
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


@triton.jit(do_not_specialize=["n_blocks"])  # type: ignore[untyped-decorator]  # Triton has no types
def dequantise_tiles(
    packed: tl.tensor,
    scales: tl.tensor,
    weights: tl.tensor,
    n_blocks: int,
    scales_stride: int,
    OUTPUTS: tl.constexpr,
    BLOCKS: tl.constexpr,
) -> None:
    """Write some blocks of some outputs out.

    Programs are [tile of outputs, tile of blocks]. `packed` is [output, block, 32], `scales`
    [block, output] and `weights` [output, block, 64].
    """
    feature = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    block = tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)
    byte = tl.arange(0, _BLOCK_BYTES)
    live = (block < n_blocks)[None, :]
    scale = tl.load(scales + block[None, :] * scales_stride + feature[:, None], mask=live, other=0)
    place = (feature[:, None] * n_blocks + block[None, :])[:, :, None]
    live = live[:, :, None]
    both = tl.load(packed + place * _BLOCK_BYTES + byte[None, None, :], mask=live, other=0)
    even, odd = _dequantise(both, scale[:, :, None])
    input = tl.arange(0, 2 * _BLOCK_BYTES)[None, None, :]
    tl.store(weights + place * (2 * _BLOCK_BYTES) + input, tl.interleave(even, odd), mask=live)


@triton.jit(do_not_specialize=["n_rows", "n_parts"])  # type: ignore[untyped-decorator]  # Triton has no types
def multiply_tiles(
    rows: tl.tensor,
    packed: tl.tensor,
    scales: tl.tensor,
    places: tl.tensor,
    output: tl.tensor,
    sums: tl.tensor,
    arrivals: tl.tensor,
    n_rows: int,
    n_outputs: int,
    n_inputs: int,
    n_parts: int,
    OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    """Sum one piece over one part of the inputs; the last part's block adds all parts up.

    Programs are [tile of outputs, part of the inputs, tile of rows]. `rows` is [row, block, 2, 32]:
    a block's even inputs, then its odd ones. `packed` is [output, input / 2], `scales` [block,
    output], `places` [output / 64, 2] as in Nf4Matrix, `sums` [part, row, output], `arrivals` a
    zero for each piece. `output` has each matrix's [row, output] after the other's.
    """
    tile, part, row_tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    feature = tile * OUTPUTS + tl.arange(0, OUTPUTS)
    row = row_tile * ROWS + tl.arange(0, ROWS)
    byte = tl.arange(0, _BLOCK_BYTES)
    live = row[None, :] < n_rows
    n_blocks = n_inputs // (2 * _BLOCK_BYTES) // n_parts
    first = part * n_blocks
    packed += feature[:, None] * (n_inputs // 2) + (first * _BLOCK_BYTES + byte)[None, :]
    rows += row[None, :] * n_inputs + (first * 2 * _BLOCK_BYTES + byte)[:, None]
    scales += first * n_outputs + feature
    total = tl.zeros((OUTPUTS, ROWS), tl.float32)
    for _ in range(n_blocks):
        both = tl.load(packed)
        scale = tl.load(scales)
        even, odd = _dequantise(both, scale[:, None])
        total = tl.dot(even, tl.load(rows, mask=live, other=0.0), total)
        total = tl.dot(odd, tl.load(rows + _BLOCK_BYTES, mask=live, other=0.0), total)
        packed += _BLOCK_BYTES
        rows += 2 * _BLOCK_BYTES
        scales += n_outputs
    places += tile * (OUTPUTS // _SMALLEST_TILE) * 2
    start = tl.multiple_of(tl.load(places), _SMALLEST_TILE)
    width = tl.multiple_of(tl.load(places + 1), _SMALLEST_TILE)
    output += n_rows * start + row[None, :] * width + (feature - start)[:, None]
    if n_parts == 1:
        tl.store(output, total.to(tl.bfloat16), mask=live)
    else:
        place = sums + row[None, :] * n_outputs + feature[:, None]
        tl.store(place + part * n_rows * n_outputs, total, mask=live)
        # All threads' sums must be written before this block says so; whoever is last adds them up.
        tl.debug_barrier()
        piece = row_tile * tl.num_programs(0) + tile
        if tl.atomic_add(arrivals + piece, 1, sem="acq_rel") == n_parts - 1:
            total = tl.zeros((OUTPUTS, ROWS), tl.float32)
            for other in range(n_parts):
                step = other * n_rows * n_outputs
                total += tl.load(place + step, mask=live, cache_modifier=".cg")
            tl.store(output, total.to(tl.bfloat16), mask=live)
            tl.store(arrivals + piece, 0)
