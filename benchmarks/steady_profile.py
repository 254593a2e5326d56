"""GPU time by kind of kernel in the engine's steady state.

Llama 3.1 8B's shape with random weights in 4 bits, all slots in the middle of their answers. Some
seconds are recorded by PyTorch's profiler; what is not a kernel's time is idle. --tiny shows that
the engine runs without a GPU: there is nothing to record then.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.llama_shape import Papers
from benchmarks.measured import report
from benchmarks.throughput import Variant, load_model, random_model
from models.engines.continuous import ContinuousEngine, EngineOptions
from models.weights.loading import LoadedModel

#: Answers that end before the recording begins, and enough papers to last through it.
SETTLED, PAPERS_A_SECOND = 8, 8
#: Number of kernel names reported, and the characters kept of each: template names are long.
NAMES, NAME_CHARACTERS = 40, 160
#: Kinds of work by what their kernels are called. FlashAttention-3's fourth switch after the
#: architecture says that rows differ in length, as those of a step do.
KINDS = {
    "attention of steps": r"attend_split|combine_splits"
    r"|FlashAttnFwdSm90.*?Sm90, \w+, \w+, \w+, true"
    r"|FlashAttnFwdCombine|prepare_varlen|flash_fwd_splitkv",
    "attention of prompts": r"FlashAttnFwdSm90|flash_fwd_kernel|cudnn_generated.*sdpa",
    "products of steps": r"multiply_tiles|direct_copy_kernel_cuda.*?BFloat16",
    "weights written out for prompts": r"dequantise_tiles|kDequantizeBlockwise",
    "rows of prompts rounded to FP8": r"quantise_row",
    "scores of the vocabulary": r"nvjet_sm90_tss",
    "products of prompts": r"nvjet|cutlass.*gemm|cutlass::device_kernel",
    "SwiGLU, norms, rotations, sums of layers": r"swiglu|rms_norm|rope|CUDAFunctor_add<c10::BF",
    "storing keys and values": r"index_copy_kernel",
}
SYSTEMS = ("nf4", "nf4_fp8", "nf4_sampled", "nf4_adapter", "nf4_adapter_fp8", "nf4_adapter_fp8_all")
REST = "choosing tokens and all else"


@dataclass(frozen=True)
class KernelRun:
    """One run of a kernel or copy; times in nanoseconds."""

    name: str
    start: int
    end: int


def main() -> None:
    """Fill an engine, record it and print the shares."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model or random_model(Path(scratch), options)
        variant = Variant.of(options.system, model, Path(scratch))
        results = profiled(load_model(model, "nf4", None, ours=True), variant, options)
    report({options.system: results}, options.json)
    for kind, share in results["shares"].items():
        print(f"{share:6.1%}  {kind}")


def profiled(loaded: LoadedModel, variant: Variant, options: argparse.Namespace) -> dict[str, Any]:
    """Fill an engine and record it; close it."""
    engine = ContinuousEngine(
        loaded,
        find_adapter=lambda _: variant.adapter,
        options=EngineOptions(max_tokens=12_288, slots=options.slots, kv_cache=variant.kv_cache),
    )
    waiting = SETTLED + int(PAPERS_A_SECOND * options.seconds)
    scale = 0.02 if options.tiny else 1.0
    requests = Papers.of(loaded.tokenizer).steady(engine.slots, waiting, scale=scale)
    futures = [engine.submit(replace(request, **variant.asked)) for request in requests]
    futures[min(SETTLED, engine.slots) - 1].result()
    kernels = recorded(options.seconds)
    results = {"slots": engine.slots, **summary(kernels)}
    engine.close()
    return results


def recorded(seconds: float) -> list[KernelRun]:
    """Kernels and copies of some seconds, ordered by start."""
    on_gpu = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as record:
        time.sleep(seconds)
        if on_gpu:
            torch.cuda.synchronize()
    events = record.profiler.kineto_results.events()
    kernels = [KernelRun(e.name(), e.start_ns(), e.end_ns()) for e in events if _is_work(e)]
    return sorted(kernels, key=lambda kernel: kernel.start)


def _is_work(event: Any) -> bool:
    on_device = "CUDA" in str(event.device_type()) and event.end_ns() > event.start_ns()
    return on_device and not re.search("Sync|Event", event.name())


def summary(kernels: Iterable[KernelRun]) -> dict[str, Any]:
    """Shares of the time between the first start and the last end; the remainder is idle."""
    kernels = list(kernels)
    spent: Counter[str] = Counter()
    for kernel in kernels:
        spent[kind_of(kernel.name)] += kernel.end - kernel.start
    span = max(k.end for k in kernels) - kernels[0].start if kernels else 0
    shares = {kind: nanoseconds / span for kind, nanoseconds in spent.most_common()}
    idle = 1 - busy(kernels) / span if span else 0.0
    return {
        "milliseconds": span / 1e6,
        "shares": {**shares, "idle": idle},
        "kernels": longest(kernels),
    }


def longest(kernels: Iterable[KernelRun]) -> list[tuple[str, float, int]]:
    """The names with the most time, their milliseconds and number of runs."""
    spent: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for kernel in kernels:
        name = kernel.name[:NAME_CHARACTERS]
        spent[name] += kernel.end - kernel.start
        times[name] += 1
    return [(name, total / 1e6, times[name]) for name, total in spent.most_common(NAMES)]


def busy(kernels: Iterable[KernelRun]) -> int:
    """Nanoseconds in which at least one kernel runs; `kernels` are ordered by start."""
    total, until = 0, 0
    for kernel in kernels:
        total += max(0, kernel.end - max(until, kernel.start))
        until = max(until, kernel.end)
    return total


def kind_of(name: str) -> str:
    """The kind of work that a kernel does."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), REST)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a Llama; default: random weights")
    parser.add_argument("--tokenizer", type=Path, help="Llama 3's tokenizer.json, or .json.xz")
    parser.add_argument("--slots", type=int)
    parser.add_argument("--seconds", type=float, default=3.0, help="that are recorded")
    parser.add_argument("--system", choices=SYSTEMS, default="nf4", help="as in throughput.py")
    parser.add_argument("--tiny", action="store_true", help="try it without a GPU")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
