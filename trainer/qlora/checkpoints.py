"""Checkpoints of a run, written atomically as folders.

They hold safetensors and JSON only, so reading one cannot run code.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from errors import UserError

_PARTIAL = ".partial"


@dataclass(frozen=True)
class TrainingPosition:
    """Progress of a run: `step` optimiser steps, and samples of the next one accumulated.

    `history` has every step's values so far; the keys are `step`, `loss` and so on.
    """

    step: int
    n_samples: int = 0
    loss: float = 0.0
    history: tuple[Mapping[str, float], ...] = ()
    #: Must not change when the run is resumed.
    identity: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder's name; names sort as positions do."""
        within = f"-{self.n_samples:03}" if self.n_samples else ""
        return f"step-{self.step:06}{within}"


@dataclass(frozen=True)
class TrainingState:
    """A position and its tensors, by name."""

    position: TrainingPosition
    adapter: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    #: Accumulated gradients of the step's samples; empty between steps.
    gradients: Mapping[str, Tensor] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one run, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: TrainingState) -> Path:
        """Write a checkpoint. UserError if that fails; then no partial checkpoint remains."""
        target = self.folder / state.position.name
        scratch = self.folder / (state.position.name + _PARTIAL)
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            for name in ("adapter", "optimiser", "gradients"):
                save_file(dict(getattr(state, name)), scratch / f"{name}.safetensors")
            position = json.dumps(asdict(state.position))
            (scratch / "position.json").write_text(position, encoding="utf-8")
            _sync(scratch)
            shutil.rmtree(target, ignore_errors=True)
            scratch.rename(target)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise UserError(
                f"Checkpoint {state.position.name} could not be written to {self.folder}: "
                f"{_reason(error)}. The earlier checkpoints are complete: free some space and "
                "continue with `referee train CONFIG --resume`."
            ) from error
        return target

    def all(self) -> list[Path]:
        """Folders of the complete checkpoints, oldest first."""
        return sorted(
            path for path in self.folder.glob("step-*") if not path.name.endswith(_PARTIAL)
        )

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order, without those within a step."""
        found = (path.name.removeprefix("step-") for path in self.all())
        return [int(number) for number in found if number.isdigit()]

    def newest(self) -> TrainingState | None:
        """The latest checkpoint; None if there is none."""
        found = self.all()
        return self.read(found[-1]) if found else None

    def at(self, step: int) -> Path:
        """Folder of the checkpoint after `step` steps; UserError, naming the others, if missing."""
        path = self.folder / TrainingPosition(step).name
        if not path.is_dir():
            there = ", ".join(map(str, self.steps())) or "none"
            raise UserError(f"There is no checkpoint of step {step}; existing steps: {there}.")
        return path

    @staticmethod
    def read(path: Path) -> TrainingState:
        """Read a checkpoint; UserError when it is damaged."""
        try:
            fields = json.loads((path / "position.json").read_text(encoding="utf-8"))
            position = replace(TrainingPosition(**fields), history=tuple(fields["history"]))
            names = ("adapter", "optimiser", "gradients")
            tensors = [load_file(path / f"{name}.safetensors") for name in names]
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            raise UserError(f"The checkpoint {path} cannot be read: {error}.") from error
        return TrainingState(position, *tensors)

    def prune(self, keep: int, steps: Collection[int]) -> None:
        """Remove all but the newest `keep` and those of `steps`, and partial ones of a crash."""
        wanted = {TrainingPosition(step).name for step in steps}
        for path in self.all()[:-keep]:
            if path.name not in wanted:
                shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob(f"*{_PARTIAL}"):
            shutil.rmtree(path, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Flush files and folder to the disk before the folder is renamed."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: Exception) -> Any:
    return getattr(error, "strerror", None) or str(error).split("\n", 1)[0]
