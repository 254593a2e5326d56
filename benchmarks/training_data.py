"""Seconds of `referee data import|clean|merge|build` over the shared data, by the real commands.

Needs ../shared/data and the small model's tokenizer; writes into a temporary home.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measured import data_folder, report
from subprocesses import python_command
from testing.small_models import small_model_folder

SETS = ("iclr2017", "treereview")


def run(home: Path) -> dict[str, Any]:
    """Each command's seconds, and what the data sets hold."""
    (home / "models").mkdir()
    (home / "models" / "smollm2-135m").symlink_to(small_model_folder())
    data = data_folder()
    splits = [part for name in SETS for part in ("--splits", str(data / name / "splits.json"))]
    commands = {
        **{f"import {name}": ["import", str(data / name)] for name in SETS},
        "clean": ["clean"],
        "merge --engine structured, both aspect sets": ["merge"],
        **{
            f"build for demo-{n}": ["build", str(home / n), "--reviewer", f"demo-{n}", *splits]
            for n in "74"
        },
    }
    seconds = {name: _timed(command, home) for name, command in commands.items()}
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "seconds_in_all": round(sum(seconds.values()), 1),
        "cpu_seconds_in_all": round(usage.ru_utime + usage.ru_stime, 1),
        "load_average_1_min": round(os.getloadavg()[0], 1),
        "data_sets": {f"demo-{n}": _card(home / n) for n in "74"},
    }


def _timed(command: list[str], home: Path) -> float:
    started = time.monotonic()
    subprocess.run(
        python_command("cli", "data", *command),
        env=os.environ | {"REFEREE_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return round(time.monotonic() - started, 1)


def _card(folder: Path) -> dict[str, Any]:
    card = json.loads((folder / "card.json").read_text())
    return {name: card[name] for name in ("sha256", "counts", "lengths", "cut", "rules")}


def main() -> None:
    """Run the pipeline once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        report(run(Path(home)), arguments.json)


if __name__ == "__main__":
    main()
