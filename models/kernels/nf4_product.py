"""Multiply small batches by NF4 matrices in 4 bits, or dequantise the matrices to bf16 or e4m3.

In both cases a low-rank product, that of an adapter, can be added before rounding.

bitsandbytes dequantises a matrix into memory and multiplies by that, which moves nine times the
bytes of the 4-bit weights: at 16 rows and more that is most of a decode step's matrix products.
Here each thread block dequantises its weights in registers, right before the tensor cores use them
(compare Frantar et al. 2024, arXiv:2408.11743, and for the look-up Guo et al. 2024,
arXiv:2407.10960).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import ceil

import torch
from torch import Tensor

from models.kernels.fp8 import FP8
from models.kernels.fp8_product import Fp8Rows
from models.kernels.nf4_dequantise import TABLE_FACTOR
from models.kernels.nf4_tiling import (
    BLOCK_WEIGHTS,
    SMALLEST_TILE,
    DequantiseTile,
    Tiling,
    dequantise_tile,
    tiling_for,
)


@dataclass(frozen=True)
class LowRank:
    """A product that is added to weights, in bf16: `up` [output, rank] by `down` [rank, input].

    Of several matrices, `up` has all outputs and `down` is [matrix * rank, input]. Ranks are a
    multiple of RANK_STEP. `down_limits` float32 [matrix * rank] are the largest absolute values of
    `down`'s rows: they bound what is added.
    """

    up: Tensor
    down: Tensor
    down_limits: Tensor

    @classmethod
    def of(cls, up: Tensor, down: Tensor) -> LowRank:
        """Find the limits."""
        limits = down.abs().amax(dim=1) if down.numel() else down.new_zeros(len(down))
        return cls(up, down, limits.float())

    def select_ranks(self, span: slice) -> LowRank:
        """The product of some ranks of one matrix, as views."""
        return LowRank(self.up[:, span], self.down[span], self.down_limits[span])

    def project_rows(self, rows: Tensor, columns: Tensor) -> LowRankTerm:
        """Multiply `rows` [row, input] by `down`.

        `columns` [row or 1, 1, rank] is 1 for the ranks that a row has, and 0 for the others.
        """
        inner = rows @ self.down.t()
        return LowRankTerm(self.up, inner.view(len(rows), -1, columns.shape[-1]) * columns)


@dataclass(frozen=True)
class LowRankTerm:
    """What is added to a product of rows: `inner` [row, matrix, rank] by `up`, as in LowRank."""

    up: Tensor
    inner: Tensor


@dataclass(frozen=True)
class Nf4Matrix:
    """Matrices that multiply the same rows, one below the other: a product is one of all.

    `packed` uint8 holds two weights a byte as bitsandbytes packs them, row by row; `scales` is as
    `pack_scales` gives it. `offsets` int32 [output / 64, 3] has for each 64 outputs the first one
    of their matrix, how many that has, and its number. `limits` float32 [output] are the largest
    absolute values of the outputs' weights.
    """

    packed: Tensor
    scales: Tensor
    offsets: Tensor
    limits: Tensor
    #: Outputs of each matrix.
    outputs: tuple[int, ...]

    @classmethod
    def of(
        cls, packed: Sequence[Tensor], scales: Sequence[Tensor], outputs: Sequence[int]
    ) -> Nf4Matrix:
        """Join matrices of equally many inputs; each comes with its scales, [output * block]."""
        sized = list(zip(_offsets(outputs), outputs, range(len(outputs)), strict=True))
        offsets = [place for place in sized for _ in range(place[1] // SMALLEST_TILE)]
        columns = [pack_scales(each, n) for each, n in zip(scales, outputs, strict=True)]
        return cls(
            torch.cat([each.flatten() for each in packed]),
            torch.cat(columns, dim=1),
            torch.tensor(offsets, dtype=torch.int32, device=packed[0].device),
            # NF4 scales each block by its largest absolute value, which becomes 1 or -1.
            torch.cat([s.view(n, -1).amax(1) for s, n in zip(scales, outputs, strict=True)]),
            tuple(outputs),
        )

    @property
    def n_inputs(self) -> int:
        """Inputs that all of them have."""
        return len(self.scales) * BLOCK_WEIGHTS

    def bytes_of(self, member: int) -> Tensor:
        """The packed weights of one matrix, a view."""
        start, n_outputs = _offsets(self.outputs)[member], self.outputs[member]
        row_bytes = self.n_inputs // 2
        return self.packed[start * row_bytes : (start + n_outputs) * row_bytes]

    def scales_of(self, member: int) -> Tensor:
        """The scales of one matrix, a view."""
        start = _offsets(self.outputs)[member]
        return self.scales[:, start : start + self.outputs[member]]

    def limits_of(self, member: int) -> Tensor:
        """The limits of one matrix, a view."""
        start = _offsets(self.outputs)[member]
        return self.limits[start : start + self.outputs[member]]


def pack_scales(scales: Tensor, n_outputs: int) -> Tensor:
    """The scales of a matrix, [output * block] in float32, as the kernels read them.

    Gives [block, output] in int32: the scale in bf16 in the upper half, in the lower one what that
    leaves of it, so that a product rounds once.
    """
    by_output = scales.view(n_outputs, -1).T.contiguous() / TABLE_FACTOR
    upper = by_output.bfloat16()
    lower = (by_output - upper.float()).bfloat16()
    return (_bits(upper) << 16) | (_bits(lower) & 0xFFFF)


def multiply(
    rows: Tensor, matrix: Nf4Matrix, added: LowRankTerm | None = None, tiling: Tiling | None = None
) -> tuple[Tensor, ...]:
    """Multiply `rows`, [row, input] in bf16, by each transposed matrix; [row, output] in bf16.

    The results are bitwise equal at every call with the same number of rows.
    """
    from models.kernels.nf4_kernel import multiply_tiles

    n_rows, n_outputs = len(rows), sum(matrix.outputs)
    tiling = tiling or tiling_for(n_rows, matrix.outputs, matrix.n_inputs, _processors(rows.device))
    output = torch.empty(n_rows * n_outputs, device=rows.device, dtype=rows.dtype)
    multiply_tiles[(n_outputs // tiling.outputs, tiling.parts, ceil(n_rows / tiling.rows))](
        _even_then_odd(rows),
        matrix.packed,
        matrix.scales,
        matrix.offsets,
        rows if added is None else added.inner,
        rows if added is None else added.up,
        output,
        _partial_sums(tiling, n_rows, n_outputs, rows.device),
        _part_counters(rows.device),
        n_rows,
        n_outputs,
        matrix.n_inputs,
        tiling.parts,
        n_ranks=0 if added is None else added.up.shape[1],
        n_inner=0 if added is None else added.inner.stride(0),
        ADDED=added is not None,
        OUTPUTS=tiling.outputs,
        ROWS=tiling.rows,
        num_warps=tiling.warps,
        num_stages=tiling.stages,
        maxnreg=tiling.registers,
    )
    products = torch.split(output, [n_rows * n for n in matrix.outputs])
    return tuple(product.view(n_rows, -1) for product in products)


def dequantise(
    packed: Tensor, scales: Tensor, added: LowRank | None = None, tile: DequantiseTile | None = None
) -> Tensor:
    """Dequantise a matrix to bf16, [output, input]: exactly the weights that `multiply` uses.

    `packed` and `scales` are as in Nf4Matrix; `added` is summed with them before rounding.
    """
    weights = _empty_weights(scales, torch.bfloat16)
    _dequantise(packed, scales, None, added, weights, None, tile)
    return weights


def dequantise_to_fp8(
    packed: Tensor,
    scales: Tensor,
    limits: Tensor,
    added: LowRank | None = None,
    tile: DequantiseTile | None = None,
) -> Fp8Rows:
    """Dequantise a matrix to e4m3 with a scale an output: the weights of `dequantise`, rounded.

    `packed`, `scales` and `limits` are as in Nf4Matrix. No value is clipped: the scale is computed
    from the bound of what `added` can add.
    """
    weights = _empty_weights(scales, FP8)
    row_scales = torch.empty(len(weights), 1, device=packed.device)
    _dequantise(packed, scales, limits, added, weights, row_scales, tile)
    return Fp8Rows(weights, row_scales)


def _empty_weights(scales: Tensor, dtype: torch.dtype) -> Tensor:
    n_blocks, n_outputs = scales.shape
    return torch.empty(n_outputs, n_blocks * BLOCK_WEIGHTS, device=scales.device, dtype=dtype)


def _dequantise(
    packed: Tensor,
    scales: Tensor,
    limits: Tensor | None,
    added: LowRank | None,
    weights: Tensor,
    row_scales: Tensor | None,
    tile: DequantiseTile | None,
) -> None:
    """Write a matrix into `weights`; with `limits` in e4m3, and the outputs' scales beside it."""
    from models.kernels.nf4_kernel import dequantise_tiles

    n_blocks, n_outputs = scales.shape
    tile = tile or dequantise_tile(added=added is not None, fp8=limits is not None)
    dequantise_tiles[(n_outputs // tile.outputs, ceil(n_blocks / tile.blocks))](
        packed,
        scales,
        scales if limits is None else limits,
        weights if added is None else added.up,
        weights if added is None else added.down,
        scales if added is None else added.down_limits,
        weights,
        scales if row_scales is None else row_scales,
        n_blocks,
        scales.stride(0),
        n_ranks=0 if added is None else len(added.down),
        up_stride=0 if added is None else added.up.stride(0),
        ADDED=added is not None,
        FP8=limits is not None,
        OUTPUTS=tile.outputs,
        BLOCKS=tile.blocks,
        num_warps=tile.warps,
    )


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def _partial_sums(tiling: Tiling, n_rows: int, n_outputs: int, device: torch.device) -> Tensor:
    """Buffer for the sums of the parts; unused when there is only one part."""
    parts = tiling.parts if tiling.parts > 1 else 0
    return torch.empty(parts, n_rows, n_outputs, device=device)


@cache
def _part_counters(device: torch.device) -> Tensor:
    """How many parts of each piece are done; each product leaves it at zero.

    Only one product may run on a device at a time, as on a single stream.
    """
    return torch.zeros(1 << 12, dtype=torch.int32, device=device)


def _even_then_odd(rows: Tensor) -> Tensor:
    """Each block's even inputs before its odd ones: a byte holds one of each."""
    n_rows, n_inputs = rows.shape
    pairs = rows.reshape(n_rows, n_inputs // BLOCK_WEIGHTS, BLOCK_WEIGHTS // 2, 2)
    return pairs.transpose(2, 3).contiguous()


def _offsets(outputs: Sequence[int]) -> list[int]:
    return [0, *accumulate(outputs)][: len(outputs)]


def _bits(values: Tensor) -> Tensor:
    return values.view(torch.int16).int()
