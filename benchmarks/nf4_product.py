"""Products of small batches with the NF4 matrices of Llama 3.1 8B: ours, bitsandbytes and bf16.

Also what writing the matrices out in bf16 takes, ours and bitsandbytes', and what an adapter of
rank 16 adds to either: in the same kernel, or apart. Times are medians over replays of a CUDA graph
that goes through copies of a layer's matrices, more of them than the card's cache holds, as a
decode step goes through its layers. --sweep tries other tilings. Needs a GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bitsandbytes import matmul_4bit
from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
from torch import Tensor
from triton.runtime.errors import OutOfResources

from benchmarks.measured import report, save
from models.kernels.nf4_product import LowRank, Nf4Matrix, dequantise, multiply
from models.kernels.nf4_tiling import (
    BLOCK_WEIGHTS,
    DequantiseTile,
    Tiling,
    tiling_for,
)

#: Outputs of a layer's matrices that read the same rows, and their inputs.
SHAPES = {
    "query, key, value": ((4096, 1024, 1024), 4096),
    "output": ((4096,), 4096),
    "gate, up": ((14_336, 14_336), 4096),
    "down": ((4096,), 14_336),
}
LAYERS, RANK = 32, 16
ROWS = (8, 16, 32, 61, 64, 112, 122, 192)
#: Bytes of copies, more than the L2 cache: H100 and H200 have 50 MB.
COLD_BYTES = 160 << 20
REPLAYS = 9
KINDS = ("ours", "bitsandbytes", "bf16", "adapter", "adapter_apart")


def main() -> None:
    """Measure every shape at every number of rows."""
    options = _options()
    torch.manual_seed(0)
    results: dict[str, Any] = {}
    for name, (outputs, n_inputs) in SHAPES.items():
        groups = _groups(outputs, n_inputs)
        results[name] = {
            "written out": _written_out(groups, options.sweep),
            **{str(n): _measured(groups, n, options.sweep) for n in options.rows},
        }
        save(results, options.json)
    report(results, options.json)
    print(summary(results, options.rows))


class MatrixGroup:
    """Random matrices in NF4 that read the same rows."""

    def __init__(self, outputs: tuple[int, ...], n_inputs: int) -> None:
        weights = [
            torch.randn(n, n_inputs, device="cuda", dtype=torch.bfloat16) * 0.02 for n in outputs
        ]
        quantised = [quantize_4bit(w, quant_type="nf4", blocksize=BLOCK_WEIGHTS) for w in weights]
        self.packed, self.states = zip(*quantised, strict=True)
        self.fused = Nf4Matrix.of(self.packed, [s.absmax for s in self.states], outputs)
        up = torch.randn(sum(outputs), RANK, device="cuda", dtype=torch.bfloat16)
        down = torch.randn(len(outputs) * RANK, n_inputs, device="cuda", dtype=torch.bfloat16)
        self.adapter = LowRank.of(up, down * 0.005)

    @property
    def adapters(self) -> list[LowRank]:
        """The adapter's part of each matrix."""
        parts = zip(
            self.adapter.up.split(self.fused.outputs), self.adapter.down.split(RANK), strict=True
        )
        return [LowRank.of(up, down) for up, down in parts]

    def with_adapter(self, rows: Tensor, columns: Tensor, tiling: Tiling) -> None:
        """Multiply by the matrices and the adapter in one product."""
        multiply(rows, self.fused, self.adapter.project_rows(rows, columns), tiling)

    def with_adapter_apart(self, rows: Tensor, columns: Tensor, tiling: Tiling) -> None:
        """Multiply by the matrices, then by each part of the adapter."""
        products = multiply(rows, self.fused, tiling=tiling)
        for result, part in zip(products, self.adapters, strict=True):
            result.addmm_((rows @ part.down.t()) * columns[:, 0], part.up.t())

    def exact(self) -> Tensor:
        """The dequantised weights in float32, matrices stacked by rows."""
        matrices = []
        for packed, state in zip(self.packed, self.states, strict=True):
            wide = QuantState(
                state.absmax, state.shape, state.code, BLOCK_WEIGHTS, "nf4", torch.float32
            )
            matrices.append(dequantize_4bit(packed, wide))
        return torch.cat(matrices)

    def by_bitsandbytes(self, rows: Tensor) -> Tensor:
        """Multiply by one after the other."""
        pairs = zip(self.packed, self.states, strict=True)
        return torch.cat([matmul_4bit(rows, p.t(), quant_state=s) for p, s in pairs], dim=1)

    def write_out(self) -> None:
        """Dequantise one after the other."""
        for member in range(len(self.packed)):
            dequantise(self.fused.bytes_of(member), self.fused.scales_of(member))

    def write_out_with_adapter(self, tile: DequantiseTile | None = None) -> None:
        """Dequantise one after the other, with its part of the adapter added."""
        for member, part in enumerate(self.adapters):
            dequantise(self.fused.bytes_of(member), self.fused.scales_of(member), part, tile)

    def write_out_with_adapter_apart(self) -> None:
        """Dequantise one after the other, then add its part of the adapter."""
        for member, part in enumerate(self.adapters):
            written = dequantise(self.fused.bytes_of(member), self.fused.scales_of(member))
            written.addmm_(part.up, part.down)

    def write_out_by_bitsandbytes(self) -> None:
        """See write_out."""
        for packed, state in zip(self.packed, self.states, strict=True):
            dequantize_4bit(packed, state)


def _groups(outputs: tuple[int, ...], n_inputs: int) -> list[MatrixGroup]:
    copies = ceil(COLD_BYTES / (sum(outputs) * n_inputs / 2))
    return [MatrixGroup(outputs, n_inputs) for _ in range(copies)]


def _written_out(groups: list[MatrixGroup], sweep: bool) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ours_us": _microseconds(MatrixGroup.write_out, groups),
        "bitsandbytes_us": _microseconds(MatrixGroup.write_out_by_bitsandbytes, groups),
        "adapter_us": _microseconds(MatrixGroup.write_out_with_adapter, groups),
        "adapter_apart_us": _microseconds(MatrixGroup.write_out_with_adapter_apart, groups),
    }
    if sweep:
        shapes = product((16, 32, 64), (1, 2, 4, 8), (4, 8))
        tiles = [DequantiseTile(*shape) for shape in shapes if shape[0] * shape[1] <= 256]
        result["sweep"] = sorted(
            [
                _microseconds(partial(MatrixGroup.write_out_with_adapter, tile=tile), groups, 3),
                *vars(tile).values(),
            ]
            for tile in tiles
        )
    return result


def _measured(groups: list[MatrixGroup], n_rows: int, sweep: bool) -> dict[str, Any]:
    fused = groups[0].fused
    rows = torch.randn(n_rows, fused.n_inputs, device="cuda", dtype=torch.bfloat16)
    columns = rows.new_ones(n_rows, 1, RANK)
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    chosen = tiling_for(n_rows, fused.outputs, fused.n_inputs, processors)
    plain = [list(g.exact().bfloat16().split(fused.outputs)) for g in groups[: _few(groups)]]
    result: dict[str, Any] = {
        "tiling": asdict(chosen),
        "ours_us": _microseconds(lambda g: multiply(rows, g.fused, tiling=chosen), groups),
        "adapter_us": _microseconds(lambda g: g.with_adapter(rows, columns, chosen), groups),
        "adapter_apart_us": _microseconds(
            lambda g: g.with_adapter_apart(rows, columns, chosen), groups
        ),
        "bitsandbytes_us": _microseconds(lambda g: g.by_bitsandbytes(rows), groups),
        "bf16_us": _microseconds(lambda weights: [rows @ w.t() for w in weights], plain),
        "error": _error(rows, groups[0], torch.cat(multiply(rows, fused), dim=1)),
        "bitsandbytes_error": _error(rows, groups[0], groups[0].by_bitsandbytes(rows)),
    }
    if sweep:
        result["sweep"] = _sweep(rows, groups)
    return result


def _few(groups: list[MatrixGroup]) -> int:
    """Number of groups whose weights in bf16, four times as large, exceed the cache."""
    return max(2, len(groups) // 4)


def _sweep(rows: Tensor, groups: list[MatrixGroup]) -> list[list[Any]]:
    """The eight best tilings and their microseconds."""
    fused, timed = groups[0].fused, []
    tilings = list(_tilings(len(rows), sum(fused.outputs), fused.n_inputs))
    kinds = {replace(tiling, parts=1): tiling for tiling in tilings}
    with ThreadPoolExecutor(12) as pool:
        works = dict(
            zip(kinds, pool.map(lambda t: _runs(rows, fused, t), kinds.values()), strict=True)
        )
    for tiling in tilings:
        if works[replace(tiling, parts=1)]:
            fast = _microseconds(partial(_multiply, rows, tiling), groups, 3)
            timed.append([fast, *asdict(tiling).values()])
    return sorted(timed)[:8]


def _tilings(n_rows: int, n_outputs: int, n_inputs: int) -> Iterator[Tiling]:
    n_blocks = n_inputs // BLOCK_WEIGHTS
    sizes = [size for size in (16, 32, 64, 128, 256) if size < 2 * n_rows][-1:] or [16]
    for outputs, size, warps, stages in product(
        (64, 128), {*sizes, min(64, *sizes)}, (4, 8), (2, 3, 4, 5)
    ):
        tiles = n_outputs // outputs * ceil(n_rows / size)
        for parts in (1, 2, 4, 7, 8, 14, 16):
            busy = 90 <= tiles * parts <= 800 and n_blocks % parts == 0
            # 128 by 128 in 4 warps gives wrong sums.
            right = (outputs, size, warps) != (128, 128, 4)
            if busy and right and (warps == 4 or outputs * size > 1 << 13):
                yield Tiling(outputs, size, parts, warps, stages)


def _runs(rows: Tensor, fused: Nf4Matrix, tiling: Tiling) -> bool:
    """Whether the tiling fits the card's shared memory; compiles it."""
    try:
        multiply(rows, fused, tiling=tiling)
    except OutOfResources:
        return False
    return True


def _error(rows: Tensor, group: MatrixGroup, result: Tensor) -> float:
    """Norm of the difference to the product in float64, as a share of its norm."""
    exact = rows.double() @ group.exact().double().t()
    return float((result.double() - exact).norm() / exact.norm())


def _multiply(rows: Tensor, tiling: Tiling, group: MatrixGroup) -> None:
    multiply(rows, group.fused, tiling=tiling)


def _microseconds(call: Callable[[Any], Any], groups: list[Any], replays: int = REPLAYS) -> float:
    """Median time of one group."""
    call(groups[0])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for group in groups:
            call(group)
    graph.replay()
    times = []
    for _ in range(replays):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in "se")
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1000 * start.elapsed_time(end) / len(groups))
    return round(median(times), 1)


def summary(results: dict[str, Any], all_rows: list[int]) -> str:
    """Milliseconds that a prompt and steps of each number of rows spend in all linear layers."""
    lines = []
    for what in ("written out", *map(str, all_rows)):
        kinds = (kind for kind in KINDS if f"{kind}_us" in results["output"][what])
        times = {kind: _all_layers(results, what, kind) for kind in kinds}
        lines.append(f"{what:>11} " + " ".join(f"{kind} {ms:.1f}" for kind, ms in times.items()))
    return "\n".join(lines)


def _all_layers(results: dict[str, Any], what: str, kind: str) -> float:
    return LAYERS * sum(float(results[name][what][f"{kind}_us"]) for name in SHAPES) / 1000


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--sweep", action="store_true", help="try other tilings")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
