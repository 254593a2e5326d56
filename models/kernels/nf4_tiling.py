"""How products with NF4 matrices are tiled for thread blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

#: Weights that share a scale in bitsandbytes' NF4.
BLOCK_WEIGHTS = 64


@dataclass(frozen=True)
class _Kind:
    """How pieces of some number of rows are best computed."""

    outputs: int
    warps: int
    stages: int
    #: Blocks of threads that a processor holds at a time.
    blocks_per_processor: int


#: By rows. 128 outputs and rows in 4 warps run out of registers, and then give wrong sums.
_KINDS = {
    16: _Kind(128, 4, 4, 3),
    32: _Kind(128, 4, 4, 3),
    64: _Kind(128, 4, 3, 3),
    128: _Kind(64, 4, 4, 3),
    256: _Kind(64, 4, 3, 2),
}
ROW_TILES = tuple(_KINDS)
#: Blocks of weights that a part has at least, and those from which on a processor takes several.
_SHORT, _LONG = 8, 16
#: Outputs of the smallest piece; every matrix has a multiple of it.
SMALLEST_TILE = 64
#: Every adapter's rank is made a multiple of this with zeros: the least that tensor cores take.
RANK_STEP = 16
_WARP_THREADS = 32
#: Registers of a processor, and the most that a thread may have, in steps.
_REGISTERS, _MOST_REGISTERS, _REGISTER_STEP = 1 << 16, 255, 8


@dataclass(frozen=True)
class DequantiseTile:
    """The outputs and blocks of weights that a block of threads writes out."""

    outputs: int
    blocks: int
    warps: int


#: Of twelve shapes the fastest on an H200.
_DEQUANTISE_TILE = DequantiseTile(4, 16, 4)
#: The same with a product of low rank, on an H100: tensor cores take 16 outputs at least.
_DEQUANTISE_ADD_TILE = DequantiseTile(16, 8, 4)
#: The same for e4m3: of eight and of eleven shapes the fastest on an H200.
_DEQUANTISE_FP8_TILE = DequantiseTile(1, 64, 4)
_DEQUANTISE_ADD_FP8_TILE = DequantiseTile(32, 4, 4)


@dataclass(frozen=True)
class Tiling:
    """How a product is tiled for thread blocks."""

    #: Outputs and rows of one piece.
    outputs: int
    rows: int
    #: Parts that the inputs are cut into; their sums are added in a fixed order.
    parts: int
    warps: int
    #: Blocks of weights that are on their way from memory at a time.
    stages: int
    #: The most that a thread may have.
    registers: int = _MOST_REGISTERS


def dequantise_tile(*, added: bool, fp8: bool) -> DequantiseTile:
    """How a matrix is written out: with a product of low rank added, and in e4m3."""
    if fp8:
        return _DEQUANTISE_ADD_FP8_TILE if added else _DEQUANTISE_FP8_TILE
    return _DEQUANTISE_ADD_TILE if added else _DEQUANTISE_TILE


def fits(n_outputs: int, n_inputs: int) -> bool:
    """Whether a matrix of this shape can be multiplied."""
    return n_outputs % SMALLEST_TILE == 0 and n_inputs % BLOCK_WEIGHTS == 0


def tiling_for(n_rows: int, outputs: Sequence[int], n_inputs: int, n_processors: int) -> Tiling:
    """Enough tiles to occupy all processors, but not so small that adding their sums costs time.

    `outputs` are those of each matrix: no tile spans two. The rules are those of the best tilings
    of Llama 3.1 8B's matrices (`benchmarks.nf4_product --sweep`): up to 64 rows on an H100, for
    more on an H200.
    """
    n_blocks, n_outputs = n_inputs // BLOCK_WEIGHTS, sum(outputs)
    # As many rows as there are, so that weights are dequantised once.
    rows = next(size for size in ROW_TILES if size >= min(n_rows, max(ROW_TILES)))
    kind = _KINDS[rows]
    fills = n_outputs // kind.outputs * (n_blocks // _SHORT) >= n_processors
    fits_all = all(n % kind.outputs == 0 for n in outputs)
    tile = kind.outputs if fills and fits_all else SMALLEST_TILE
    tiles = n_outputs // tile * ceil(n_rows / rows)

    def is_fast(parts: int) -> bool:
        length = n_blocks // parts
        most = n_processors * (kind.blocks_per_processor if length >= _LONG else 1)
        return n_blocks % parts == 0 and length >= _SHORT and tiles * parts <= most

    parts = max(filter(is_fast, (1 << power for power in range(8))), default=1)
    threads = kind.blocks_per_processor * kind.warps * _WARP_THREADS
    registers = min(_REGISTERS // threads // _REGISTER_STEP * _REGISTER_STEP, _MOST_REGISTERS)
    return Tiling(tile, rows, parts, kind.warps, kind.stages, registers)
