"""Tokens a second of training: our QLoRA and QDoRA, and TRL's SFTTrainer with its defaults.

Llama 3.1 8B's shape with random weights; samples of 12,288 tokens of which 1,150 are the answer's.
Every system runs in a process of its own, so that none inherits another's memory, and reports the
median of its steps after two for warming up. `--gpus 1 2` measures ours on one and on two GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.llama_shape import TINY
from benchmarks.measured import report, save
from benchmarks.training_measures import samples, summary, wait
from models.weights.random_weights import LLAMA31_8B, byte_tokenizer, write_random_llama
from models.weights.store import is_complete

if TYPE_CHECKING:
    from models.weights.loading import LoadedModel

#: Measured rates of one H200: dense bf16 products, and attention.
LINEAR_FLOPS, ATTENTION_FLOPS = 700e12, 480e12
#: 15.4 GiB for PyTorch leave half a GiB of 16 for CUDA itself.
OURS: dict[str, dict[str, Any]] = {
    "qlora_16gib": {"memory_gib": 15.4},
    "qlora_44gib": {"memory_gib": 44.0},
    "qlora": {},
    "qdora": {"dora": True},
}
TRL: dict[str, dict[str, Any]] = {"trl_qlora": {}, "trl_qdora": {"dora": True}}
SYSTEMS = (*OURS, *TRL)


def main() -> None:
    """Measure what --only names, in one run."""
    options = _options()
    if options.child:
        _child(options)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = _model(Path(scratch), options)
        results: dict[str, Any] = {}
        for name in options.only:
            for n_gpus in options.gpus if name in OURS else [1]:
                key = name if n_gpus == 1 else f"{name}_{n_gpus}_gpus"
                results[key] = _in_process(name, n_gpus, folder, Path(scratch), options)
                # Saved after each system, in case the run is stopped.
                save(results, options.json)
    results["limit_tokens_per_second"] = {
        "with_recomputation": round(limit(options.tokens, 3)),
        "without": round(limit(options.tokens, 2)),
    }
    report(results, options.json)
    for key, result in results.items():
        if "tokens_per_second" in result:
            print(
                f"{key:18} {result['tokens_per_second']:9,.0f} tokens/s  peak "
                f"{result['peak_allocated_gib']:5.1f} GiB (reserved "
                f"{result['peak_reserved_gib']:5.1f})  {result.get('plan', '')}"
            )
        elif "error" in result:
            print(f"{key:18} failed: {result['error'][-300:]}")


def limit(n_tokens: int, passes: int) -> float:
    """Tokens a second at the card's rates: `passes` products a weight, attention's forward and
    backward pass (and its forward once more when activations are recomputed)."""
    linear = passes * 2 * 6.98e9 * n_tokens
    forward = 2 * 32 * 4096 * n_tokens**2
    attention = forward * (2.5 + passes - 1)
    return n_tokens / (linear / LINEAR_FLOPS + attention / ATTENTION_FLOPS)


def _in_process(
    name: str, n_gpus: int, folder: Path, scratch: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Run one system in its own process, or in one a GPU."""
    out = scratch / f"{name}-{n_gpus}.json"
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_gpus}"]
    command = [sys.executable, *(launcher if n_gpus > 1 else []), "-m", "benchmarks.training"]
    passed = [f"--{key}={getattr(options, key)}" for key in ("steps", "batch", "tokens", "answer")]
    flags = [flag for flag in ("--tiny", "--profile") if getattr(options, flag[2:])]
    if options.memory_gib:
        passed.append(f"--memory-gib={options.memory_gib}")
    started = time.monotonic()
    done = subprocess.run(
        [*command, f"--child={name}", f"--model={folder}", f"--json={out}", *passed, *flags],
        # The same allocator for all, unless the environment says otherwise.
        env={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"} | os.environ,
        capture_output=not options.profile,
        text=True,
        check=False,
    )
    if done.returncode or not out.exists():
        error = (done.stderr or "").strip()[-2000:]
        return {"error": error or f"exit code {done.returncode}"}
    result: dict[str, Any] = json.loads(out.read_text())
    print(f"{name} on {n_gpus}: {result['tokens_per_second']:,.0f} tokens/s", flush=True)
    return result | {"seconds_in_all": round(time.monotonic() - started, 1)}


def _child(options: argparse.Namespace) -> None:
    settings = OURS.get(options.child) or TRL.get(options.child) or {}
    if options.child in OURS:
        result = _ours(options, **settings)
    else:
        # Imported late: ours is measured where TRL is not installed.
        from benchmarks.rivals import trl

        result = trl.measure(options, **settings)
    if result:
        options.json.write_text(json.dumps(result))


def _ours(
    options: argparse.Namespace, *, memory_gib: float = 0.0, dora: bool = False
) -> Mapping[str, Any]:
    """Run the trainer's own loop on generated samples."""
    from trainer.qlora.checkpoints import Checkpoints
    from trainer.qlora.distributed import init_processes
    from trainer.qlora.recipe import Lora, Recipe
    from trainer.qlora.run_setup import make_trainable
    from trainer.qlora.training_loop import Training

    processes = init_processes()
    recipe = Recipe(
        name="benchmark",
        reviewer="llama31-7",
        dataset="-",
        lora=Lora(rank=16, alpha=32, dora=dora),
        batch=options.batch,
        epochs=1,
        save_every=10**6,
    )
    model, sentence = make_trainable(
        recipe,
        _loaded(options.model, processes.device),
        options.memory_gib or memory_gib,
        n_tokens=options.tokens,
    )
    speeds = _Speeds()
    n_samples = options.steps * options.batch
    with tempfile.TemporaryDirectory() as scratch:
        training = Training(
            model,
            recipe,
            train=samples(options.tokens, options.answer, n_samples),
            validation=[],
            checkpoints=Checkpoints(Path(scratch)),
            identity={},
            processes=processes,
            listener=speeds,
        )
        if options.profile:
            _profiled(lambda: model.backward(samples(options.tokens, options.answer, 1)[0], 1.0, 0))
        training.run()
    processes.close()
    if not processes.first:
        return {}
    return {
        **summary(speeds.tokens_per_second, speeds.losses),
        "plan": str(model.plan),
        "choices": sentence,
        "batch": options.batch,
    }


def _loaded(model: Path, device: torch.device) -> LoadedModel:
    """The model in NF4, loaded as for training."""
    from models.text.reviewer import builtin
    from models.text.reviewer import load as load_reviewer
    from models.weights.loading import load

    base = load_reviewer(builtin()["llama31-7"]).base
    assert base is not None
    return load(model, base, template="llama3", device=device, attention="sdpa", nf4_kernels=False)


class _Speeds:
    """Collects the values of every step."""

    def __init__(self) -> None:
        self.tokens_per_second: list[float] = []
        self.losses: list[float] = []

    def on_step(self, step: int, n_steps: int, values: Mapping[str, float]) -> None:
        """Note a step."""
        self.tokens_per_second.append(values["tokens_per_second"])
        self.losses.append(values["loss"])

    def on_message(self, sentence: str) -> None:
        """Messages are ignored."""


def _profiled(act: Any) -> None:
    """Print which kernels one sample's time goes to."""
    from torch.profiler import ProfilerActivity, profile

    act()
    wait()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        act()
        wait()
    by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    print(seen.key_averages().table(sort_by=by, row_limit=28, max_name_column_width=70))


def _model(scratch: Path, options: argparse.Namespace) -> Path:
    """The folder that --model names, written now if it is not there yet."""
    folder: Path = options.model or scratch / "model"
    if is_complete(folder):
        return folder
    tokenizer = byte_tokenizer("llama3").to_str().encode()
    shape = TINY if options.tiny else LLAMA31_8B
    return write_random_llama(folder, tokenizer, shape)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--steps", type=int, default=5, help="optimiser steps of each system")
    parser.add_argument("--batch", type=int, default=4, help="samples of an optimiser step")
    parser.add_argument("--tokens", type=int, default=12_288, help="of a sample")
    parser.add_argument("--answer", type=int, default=1_150, help="of them the answer's")
    parser.add_argument("--memory-gib", type=float, default=0.0, help="cap instead of a system's")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1], help="run ours on so many")
    parser.add_argument("--model", type=Path, help="folder of a Llama; random weights if empty")
    parser.add_argument("--profile", action="store_true", help="print one sample's kernels")
    parser.add_argument("--tiny", action="store_true", help="try it without a GPU")
    parser.add_argument("--child", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
