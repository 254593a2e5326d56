"""Products of few rows with the NF4 matrices of Llama 3.1 8B: ours, bitsandbytes' and bf16's.

Times are medians over replays of a CUDA graph that goes through copies of a matrix, more of them
than the card's cache holds, as a decode step goes through its layers. --sweep tries other tilings.
Needs a GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
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
from models.nf4_product import BLOCK_WEIGHTS, Tiling, multiply, pack_scales, tiling_for

#: Outputs and inputs of a layer's matrices, and how many a layer has of them.
SHAPES = {
    "query, output": (4096, 4096, 2),
    "key, value": (1024, 4096, 2),
    "gate, up": (14_336, 4096, 2),
    "down": (4096, 14_336, 1),
}
LAYERS = 32
ROWS = (8, 16, 32, 61, 64, 122, 192)
#: Bytes of copies that no cache holds: H100 and H200 have 50 MB.
COLD_BYTES = 160 << 20
REPLAYS = 9


def main() -> None:
    """Measure every shape at every number of rows."""
    options = _options()
    torch.manual_seed(0)
    results: dict[str, Any] = {}
    for name, (n_outputs, n_inputs, _) in SHAPES.items():
        matrices = _matrices(n_outputs, n_inputs)
        results[name] = {
            str(n_rows): _measured(matrices, n_rows, options.sweep) for n_rows in options.rows
        }
        save(results, options.json)
    report(results, options.json)
    print(summary(results, options.rows))


class Matrix:
    """A random matrix in NF4, with its scales in float32 and as our product reads them."""

    def __init__(self, n_outputs: int, n_inputs: int) -> None:
        weights = torch.randn(n_outputs, n_inputs, device="cuda", dtype=torch.bfloat16) * 0.02
        self.packed, self.state = quantize_4bit(weights, quant_type="nf4", blocksize=BLOCK_WEIGHTS)
        self.scales = pack_scales(self.state.absmax, n_outputs)

    def exact(self) -> Tensor:
        """The weights that the 4 bits stand for, in float32."""
        state = QuantState(
            self.state.absmax,
            self.state.shape,
            self.state.code,
            BLOCK_WEIGHTS,
            "nf4",
            torch.float32,
        )
        exact: Tensor = dequantize_4bit(self.packed, state)
        return exact


def _matrices(n_outputs: int, n_inputs: int) -> list[Matrix]:
    copies = ceil(COLD_BYTES / (n_outputs * n_inputs / 2))
    return [Matrix(n_outputs, n_inputs) for _ in range(copies)]


def _measured(matrices: list[Matrix], n_rows: int, sweep: bool) -> dict[str, Any]:
    n_outputs, n_inputs = matrices[0].state.shape
    rows = torch.randn(n_rows, n_inputs, device="cuda", dtype=torch.bfloat16)
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    chosen = tiling_for(n_rows, n_outputs, n_inputs, processors)
    result: dict[str, Any] = {
        "tiling": asdict(chosen),
        "ours_us": _microseconds(lambda m: multiply(rows, m.packed, m.scales, chosen), matrices),
        "bitsandbytes_us": _microseconds(
            lambda m: matmul_4bit(rows, m.packed.t(), quant_state=m.state), matrices
        ),
        "error": _error(rows, matrices[0], multiply(rows, matrices[0].packed, matrices[0].scales)),
        "bitsandbytes_error": _error(
            rows,
            matrices[0],
            matmul_4bit(rows, matrices[0].packed.t(), quant_state=matrices[0].state),
        ),
    }
    plain = [m.exact().bfloat16() for m in matrices[: max(2, len(matrices) // 4)]]
    result["bf16_us"] = _microseconds(lambda weights: rows @ weights.t(), plain)
    if sweep:
        result["sweep"] = _sweep(rows, matrices)
    return result


def _sweep(rows: Tensor, matrices: list[Matrix]) -> list[list[Any]]:
    """The eight best tilings and their microseconds."""
    n_outputs, n_inputs = matrices[0].state.shape
    tilings = list(_tilings(len(rows), n_outputs, n_inputs))
    timed = []
    with ThreadPoolExecutor(12) as pool:
        kinds = {replace(tiling, parts=1): tiling for tiling in tilings}
        works = dict(
            zip(kinds, pool.map(lambda t: _runs(rows, matrices[0], t), kinds.values()), strict=True)
        )
    for tiling in tilings:
        if works[replace(tiling, parts=1)]:
            fast = _microseconds(
                lambda m, t=tiling: multiply(rows, m.packed, m.scales, t), matrices, 3
            )
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
            if busy and (warps == 4 or outputs * size > 1 << 13):
                yield Tiling(outputs, size, parts, warps, stages)


def _runs(rows: Tensor, matrix: Matrix, tiling: Tiling) -> bool:
    """Whether the tiling fits the card's shared memory; compiles it."""
    try:
        multiply(rows, matrix.packed, matrix.scales, tiling)
    except OutOfResources:
        return False
    return True


def _error(rows: Tensor, matrix: Matrix, result: Tensor) -> float:
    """Norm of the difference to the product in float64, as a share of its norm."""
    exact = rows.double() @ matrix.exact().double().t()
    return float((result.double() - exact).norm() / exact.norm())


def _microseconds(
    call: Callable[[Any], Tensor], matrices: list[Any], replays: int = REPLAYS
) -> float:
    """Median time of one product."""
    call(matrices[0])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for matrix in matrices:
            call(matrix)
    graph.replay()
    times = []
    for _ in range(replays):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in "se")
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1000 * start.elapsed_time(end) / len(matrices))
    return round(median(times), 1)


def summary(results: dict[str, Any], all_rows: list[int]) -> str:
    """Milliseconds that a step of each number of rows spends in all linear layers."""
    lines = ["rows  ours  bitsandbytes  bf16  ms a step"]
    for n_rows in all_rows:
        sums = [
            LAYERS
            * sum(
                count * results[name][str(n_rows)][f"{kind}_us"]
                for name, (_, _, count) in SHAPES.items()
            )
            / 1000
            for kind in ("ours", "bitsandbytes", "bf16")
        ]
        lines.append(f"{n_rows:4} {sums[0]:5.1f} {sums[1]:13.1f} {sums[2]:5.1f}")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--sweep", action="store_true", help="try other tilings")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
