"""The kernel of the NF4 product, in Triton; knows neither PyTorch nor how pieces are chosen."""

from __future__ import annotations

import triton
import triton.language as tl

from models.nf4_product import BLOCK_WEIGHTS, assembly

_BLOCK_BYTES = tl.constexpr(BLOCK_WEIGHTS // 2)
_DEQUANTISE = tl.constexpr(assembly())
# Written before all inputs are read, so in registers of their own.
_REGISTERS = tl.constexpr("=&r,=&r,=&r,=&r,r,r,r,r,r,r,r,r,r")


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def _dequantise(both: tl.tensor, scale: tl.tensor) -> tl.tensor:
    """Weights of even and of odd inputs, [output, 32] each, from bytes and one scale an output."""
    upper = (scale & -65536) | ((scale >> 16) & 65535)
    lower = (scale << 16) | (scale & 65535)
    return tl.inline_asm_elementwise(
        _DEQUANTISE,
        _REGISTERS,
        [both, upper[:, None], lower[:, None]],
        dtype=(tl.bfloat16, tl.bfloat16),
        is_pure=True,
        pack=4,
    )


@triton.jit(do_not_specialize=["n_rows", "n_parts"])  # type: ignore[untyped-decorator]  # Triton has no types
def multiply_tiles(
    rows: tl.tensor,
    packed: tl.tensor,
    scales: tl.tensor,
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
    output], `sums` [part, row, output], `arrivals` a zero for each piece.
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
        even, odd = _dequantise(both, scale)
        total = tl.dot(even, tl.load(rows, mask=live, other=0.0), total)
        total = tl.dot(odd, tl.load(rows + _BLOCK_BYTES, mask=live, other=0.0), total)
        packed += _BLOCK_BYTES
        rows += 2 * _BLOCK_BYTES
        scales += n_outputs
    place = row[None, :] * n_outputs + feature[:, None]
    tl.store(sums + part * n_rows * n_outputs + place, total, mask=live)
    # All threads' sums must be written before this block says so; whoever is last adds them up.
    tl.debug_barrier()
    piece = row_tile * tl.num_programs(0) + tile
    if tl.atomic_add(arrivals + piece, 1, sem="acq_rel") == n_parts - 1:
        total = tl.zeros((OUTPUTS, ROWS), tl.float32)
        for other in range(n_parts):
            step = other * n_rows * n_outputs
            total += tl.load(sums + step + place, mask=live, cache_modifier=".cg")
        tl.store(output + place, total.to(tl.bfloat16), mask=live)
        tl.store(arrivals + piece, 0)
