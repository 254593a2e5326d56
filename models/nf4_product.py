"""Multiplies a few rows by an NF4 matrix without writing it out in bf16; knows no models.

bitsandbytes dequantises a matrix into memory and multiplies by that, which moves nine times the
bytes of the 4-bit weights: at 16 rows and more that is most of a decode step's matrix products.
Here each block of threads dequantises its weights in registers, right before the tensor cores take
them (compare Frantar et al. 2024, arXiv:2408.11743, and for the look-up Guo et al. 2024,
arXiv:2407.10960).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil

import torch
from bitsandbytes.functional import get_4bit_type
from torch import Tensor

#: Weights that share a scale, as bitsandbytes quantises.
BLOCK_WEIGHTS = 64
#: The table of 16 values is kept in bf16, multiplied by this, and the scales divided by it: of all
#: factors from 1 to 2 the one whose products lose least in rounding (0.08 % in root mean square).
TABLE_FACTOR = 1.43675


@dataclass(frozen=True)
class _Kind:
    """How pieces of some number of rows are best computed."""

    outputs: int
    warps: int
    stages: int
    #: Blocks of threads that a processor holds at a time.
    resident: int


#: By rows. 128 outputs and rows in 4 warps run out of registers, and then give wrong sums.
_KINDS = {
    16: _Kind(128, 4, 4, 3),
    32: _Kind(128, 4, 4, 3),
    64: _Kind(128, 4, 3, 3),
    128: _Kind(64, 4, 4, 2),
    256: _Kind(128, 8, 3, 1),
}
ROW_TILES = tuple(_KINDS)
#: Blocks of weights that a part has at least, and those from which on a processor takes several.
_SHORT, _LONG = 8, 16
#: Matrices up to this size take at most 64 rows a piece.
_SMALL_WEIGHTS = 1 << 24


@dataclass(frozen=True)
class Tiling:
    """How a product is cut into pieces for blocks of threads."""

    #: Outputs and rows of one piece.
    outputs: int
    rows: int
    #: Parts that the inputs are cut into; their sums are added in a fixed order.
    parts: int
    warps: int
    #: Blocks of weights that are on their way from memory at a time.
    stages: int


def fits(n_outputs: int, n_inputs: int) -> bool:
    """Whether a matrix of this shape can be multiplied."""
    return n_outputs % 64 == 0 and n_inputs % BLOCK_WEIGHTS == 0


def pack_scales(scales: Tensor, n_outputs: int) -> Tensor:
    """The scales of a matrix, [output * block] in float32, as the kernel reads them.

    Gives [block, output] in int32: the scale in bf16 in the upper half, in the lower one what that
    leaves of it, so that a product rounds once.
    """
    by_output = scales.view(n_outputs, -1).T.contiguous() / TABLE_FACTOR
    upper = by_output.bfloat16()
    lower = (by_output - upper.float()).bfloat16()
    return (_bits(upper) << 16) | (_bits(lower) & 0xFFFF)


def multiply(rows: Tensor, packed: Tensor, scales: Tensor, tiling: Tiling | None = None) -> Tensor:
    """Multiply `rows`, [row, input] in bf16, by the transposed matrix; [row, output] in bf16.

    `packed` holds two weights a byte as bitsandbytes packs them, row by row; `scales` comes from
    `pack_scales`. The result is the same to the bit at every call with as many rows.
    """
    from models.nf4_kernel import multiply_tiles

    n_rows, n_inputs = rows.shape
    n_outputs = scales.shape[1]
    tiling = tiling or tiling_for(n_rows, n_outputs, n_inputs, _processors(rows.device))
    tiles = n_outputs // tiling.outputs, ceil(n_rows / tiling.rows)
    output = torch.empty(n_rows, n_outputs, device=rows.device, dtype=rows.dtype)
    sums = torch.empty(tiling.parts, n_rows, n_outputs, device=rows.device)
    multiply_tiles[(tiles[0], tiling.parts, tiles[1])](
        _halves(rows),
        packed,
        scales,
        output,
        sums,
        _arrivals(rows.device),
        n_rows,
        n_outputs,
        n_inputs,
        tiling.parts,
        OUTPUTS=tiling.outputs,
        ROWS=tiling.rows,
        num_warps=tiling.warps,
        num_stages=tiling.stages,
    )
    return output


def tiling_for(n_rows: int, n_outputs: int, n_inputs: int, n_processors: int) -> Tiling:
    """Pieces enough to keep all processors busy, none so small that adding their sums shows.

    The rules are those of the best tilings of Llama 3.1 8B's matrices on an H100
    (`benchmarks.nf4_product --sweep`).
    """
    n_blocks = n_inputs // BLOCK_WEIGHTS
    rows, kind = _kind_for(n_rows, n_outputs * n_inputs)
    fills = n_outputs // kind.outputs * (n_blocks // _SHORT) >= n_processors
    outputs = kind.outputs if fills and n_outputs % kind.outputs == 0 else 64
    tiles = n_outputs // outputs * ceil(n_rows / rows)

    def is_fast(parts: int) -> bool:
        length = n_blocks // parts
        most = n_processors * (kind.resident if length >= _LONG else 1)
        return n_blocks % parts == 0 and length >= _SHORT and tiles * parts <= most

    parts = max(filter(is_fast, (1 << power for power in range(8))), default=1)
    return Tiling(outputs, rows, parts, kind.warps, kind.stages)


def _kind_for(n_rows: int, n_weights: int) -> tuple[int, _Kind]:
    """As many rows as there are, so that weights are dequantised once; small matrices are cheap."""
    most = 64 if n_weights <= _SMALL_WEIGHTS else max(ROW_TILES)
    rows = next(size for size in ROW_TILES if size >= min(n_rows, most))
    return rows, _KINDS[rows]


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _arrivals(device: torch.device) -> Tensor:
    """How many parts of each piece are done; each product leaves it at zero."""
    return torch.zeros(1 << 12, dtype=torch.int32, device=device)


def _halves(rows: Tensor) -> Tensor:
    """Each block's even inputs before its odd ones: a byte holds one of each."""
    n_rows, n_inputs = rows.shape
    pairs = rows.reshape(n_rows, n_inputs // BLOCK_WEIGHTS, BLOCK_WEIGHTS // 2, 2)
    return pairs.transpose(2, 3).contiguous()


def _bits(values: Tensor) -> Tensor:
    return values.view(torch.int16).int()


def assembly() -> str:
    """Instructions that turn 4 bytes into their 8 weights, pairs of bf16 in 4 registers.

    $0 and $1 get the upper halves' weights, $2 and $3 the lower ones'; $4 holds the bytes, $5 to $8
    their scales' upper parts, twice each, $9 to $12 the lower ones. Only two and two bytes are of
    one output. A byte of the table is looked up for four weights at once: `prmt` picks from 8 bytes
    by 3 bits, the fourth bit chooses between two picks.
    """
    upper, lower = _table_words()
    lines = [".reg .b32 bits, high, a, b, u, l, pair, rest, none;"]
    lines += [f".reg .b32 U{i}, L{i};" for i in range(4)]
    lines += [f"mov.b32 U{i}, {word:#010x};" for i, word in enumerate(upper)]
    lines += [f"mov.b32 L{i}, {word:#010x};" for i, word in enumerate(lower)]
    lines += ["mov.b32 none, 0x80008000;"]  # minus zero twice: adds nothing
    lines += ["and.b32 bits, $4, 0x77777777;"]
    lines += ["shr.u32 high, $4, 1;", "and.b32 high, high, 0x44444444;"]
    lines += ["or.b32 high, high, 0x32103210;"]
    for pair in (0, 1):
        if pair:
            lines += ["shr.u32 bits, bits, 16;", "shr.u32 high, high, 16;"]
        for plane, name in (("U", "u"), ("L", "l")):
            lines += [f"prmt.b32 a, {plane}0, {plane}1, bits;"]
            lines += [f"prmt.b32 b, {plane}2, {plane}3, bits;"]
            lines += [f"prmt.b32 {name}, a, b, high;"]
        for target, order in ((pair, 0x7351), (2 + pair, 0x6240)):
            lines += [f"prmt.b32 pair, l, u, {order:#x};"]
            lines += [f"fma.rn.bf16x2 rest, pair, ${9 + 2 * pair}, none;"]
            lines += [f"fma.rn.bf16x2 ${target}, pair, ${5 + 2 * pair}, rest;"]
    return "{" + " ".join(lines) + "}"


def _table_words() -> tuple[list[int], list[int]]:
    """The 16 values' upper bytes in 4 words, and their lower bytes."""
    table = get_4bit_type("nf4", device="cpu").double() * TABLE_FACTOR
    values = [bits & 0xFFFF for bits in _bits(table.bfloat16()).tolist()]
    planes = [bits >> 8 for bits in values], [bits & 0xFF for bits in values]
    upper, lower = (
        [int.from_bytes(bytes(plane[i : i + 4]), "little") for i in range(0, 16, 4)]
        for plane in planes
    )
    return upper, lower
