"""A training run, from a recipe to an adapter's folder.

The files of a run are in `$REFEREE_HOME/training/<name>`: checkpoints/, adapter/, candidates/.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer

from errors import UserError
from models.hashes import adapter_sha256
from models.kernels.device_support import Precision
from models.weights import store
from models.weights.loading import LoadedModel
from models.weights.loading import load as load_model
from trainer.qlora.adapter_provenance import provenance
from trainer.qlora.checkpoints import Checkpoints, TrainingState
from trainer.qlora.distributed import Processes
from trainer.qlora.lora import write_adapter
from trainer.qlora.loss_curve import draw
from trainer.qlora.recipe import Recipe
from trainer.qlora.run_setup import (
    LazySamples,
    lora_settings,
    make_encoder,
    make_trainable,
    read_dataset,
)
from trainer.qlora.training_loop import ProgressListener, Training, TrainingOutcome

_FULL_PRECISION = Precision(torch.float32, "requested")


@dataclass(frozen=True)
class RunOptions:
    """How to run a recipe on this machine."""

    #: The folder of models, datasets and runs.
    home: Path
    name: str
    resume: bool = False
    #: Write the adapter of this step instead of the best one.
    step: int | None = None
    #: Also write the adapter of each kept checkpoint.
    every_checkpoint: bool = False
    memory_gib: float = 0.0
    #: Compute in fp32 on every device; for tests.
    full_precision: bool = False

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.home / "training" / self.name


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run; `adapter` is None if it was stopped before its end.

    `candidates` are the folders of all kept checkpoints' adapters, if they were requested.
    """

    outcome: TrainingOutcome
    step: int
    validation_loss: float | None
    adapter: Path | None
    adapter_sha256: str | None
    candidates: tuple[Path, ...] = ()

    @property
    def adapters(self) -> tuple[Path, ...]:
        """The folders of all adapters that the run wrote."""
        return (self.adapter, *self.candidates) if self.adapter else ()


class TrainingRun:
    """A run that is ready to train. UserError when recipe, data set and reviewer do not fit."""

    def __init__(self, recipe: Recipe, options: RunOptions, processes: Processes) -> None:
        self.recipe, self.options, self._processes = recipe, options, processes
        self.dataset = read_dataset(recipe, options.home)
        self._checkpoints = Checkpoints(options.folder / "checkpoints")
        self.state = self._latest_state()
        loaded = self._load()
        self.versions = loaded.versions
        self._check_resumable(self.identity)
        #: `choices` is a sentence on attention, kernels and memory.
        self._model, self.choices = make_trainable(recipe, loaded, options.memory_gib)
        self._tokenizer: Tokenizer = loaded.tokenizer

    @property
    def identity(self) -> Mapping[str, str]:
        """Properties that must not change when a run is resumed."""
        return {
            "recipe": self.recipe.sha256,
            "dataset": self.dataset.card.sha256,
            "base weights": self.versions["weights_sha256"],
            "number format": self.versions["compute"],
        }

    @property
    def step(self) -> int:
        """Steps that were done before it was resumed."""
        return self.state.position.step if self.state else 0

    def train(self, listener: ProgressListener) -> TrainingResult:
        """Train, or go on training, until the end or SIGTERM; then write the adapter."""
        with _stop_on_signal() as stop:
            outcome = self._training(listener, stop).run()
        if not outcome.finished:
            return TrainingResult(outcome, outcome.position.step, None, None, None)
        step = outcome.best_step if self.options.step is None else self.options.step
        loss = outcome.validation.get(step)
        if not self._processes.first:
            return TrainingResult(outcome, step, loss, None, None)
        folder = self._write_adapter(outcome, step, self.options.folder / "adapter")
        candidates = self._candidates(outcome) if self.options.every_checkpoint else ()
        return TrainingResult(outcome, step, loss, folder, adapter_sha256(folder), candidates)

    def _latest_state(self) -> TrainingState | None:
        newest = self._checkpoints.newest()
        folder = self.options.folder
        if newest is not None and not self.options.resume:
            raise UserError(
                f"There is already a run {self.options.name} in {folder}: continue it with "
                "--resume, or choose another --name."
            )
        if newest is None and self.options.resume:
            raise UserError(f"There is no checkpoint in {folder} to resume from.")
        return newest

    def _check_resumable(self, identity: Mapping[str, str]) -> None:
        then = self.state.position.identity if self.state else identity
        changed = [name for name, value in identity.items() if then.get(name) != value]
        if changed:
            raise UserError(
                f"Run {self.options.name} cannot be resumed: the {changed[0]} is not the one it "
                "was started with. Start a new run under another --name."
            )

    def _load(self) -> LoadedModel:
        config, base = self.recipe.reviewer_config, self.recipe.base
        # trainer.qlora.causal_attention replaces the model's attention.
        return load_model(
            store.resolve(base, self.options.home),
            base,
            template=config.template or "",
            device=self._processes.device,
            attention="sdpa",
            precision=_FULL_PRECISION if self.options.full_precision else None,
            nf4_kernels=False,
            training=True,
        )

    def _training(self, listener: ProgressListener, stop: Callable[[], bool]) -> Training:
        recipe, data = self.recipe, self.dataset
        encoder = make_encoder(recipe, self._tokenizer)
        validation = data.validation[: recipe.validation_pairs or None]
        training = Training(
            self._model,
            recipe,
            train=LazySamples(data.train, encoder),
            validation=LazySamples(validation, encoder),
            checkpoints=self._checkpoints,
            identity=self.identity,
            processes=self._processes,
            listener=listener,
            stop=stop,
        )
        if self.state is not None:
            training.resume(self.state)
        return training

    def _candidates(self, outcome: TrainingOutcome) -> tuple[Path, ...]:
        folder = self.options.folder / "candidates"
        steps = self._checkpoints.steps()
        return tuple(self._write_adapter(outcome, step, folder / f"step-{step}") for step in steps)

    def _write_adapter(self, outcome: TrainingOutcome, step: int, folder: Path) -> Path:
        state = Checkpoints.read(self._checkpoints.at(step))
        tensors = {name: value.bfloat16() for name, value in state.adapter.items()}
        scratch = folder.with_name(f"{folder.name}.partial")
        record = provenance(
            self.recipe,
            self.dataset,
            run=self.options.name,
            base_weights_sha256=self.versions["weights_sha256"],
            versions=self.versions,
            metrics=_metrics(outcome, step),
        )
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            write_adapter(scratch, tensors, lora_settings(self.recipe), self.recipe.base.hub)
            (scratch / "provenance.json").write_text(json.dumps(record, indent=1) + "\n")
            picture = draw(outcome.position.history, self.options.name, step)
            (scratch / "curve.svg").write_text(picture, encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            scratch.rename(folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise UserError(
                f"The adapter could not be written to {folder}: {error}. The checkpoints are "
                "complete: free some space and continue with `referee train CONFIG --resume`."
            ) from error
        return folder


def _metrics(outcome: TrainingOutcome, step: int) -> dict[str, Any]:
    history = outcome.position.history
    losses = {int(values["step"]): values["loss"] for values in history}
    speeds = sorted(values["tokens_per_second"] for values in history)
    return {
        "step": step,
        "n_steps": outcome.position.step,
        "chosen_by": "validation loss" if step == outcome.best_step else "step",
        "validation_loss": outcome.validation.get(step),
        "validation_losses": {str(key): value for key, value in outcome.validation.items()},
        "training_loss": losses.get(step),
        "median_tokens_per_second": speeds[len(speeds) // 2] if speeds else None,
        "peak_gib": max((values.get("peak_gib", 0.0) for values in history), default=0.0),
    }


@contextmanager
def _stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Catch SIGTERM and SIGINT; yields a function that returns whether one was received."""
    caught: list[int] = []
    wanted = (signal.SIGTERM, signal.SIGINT)
    before = {each: signal.signal(each, lambda number, _: caught.append(number)) for each in wanted}
    try:
        yield lambda: bool(caught)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
