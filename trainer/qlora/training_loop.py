"""The training loop: gradient accumulation, optimiser steps, validation, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.optim import AdamW

from trainer.data.pair_encoding import Sample
from trainer.qlora.checkpoints import Checkpoints, TrainingPosition, TrainingState
from trainer.qlora.distributed import Processes
from trainer.qlora.llama import TrainableLlama
from trainer.qlora.recipe import Recipe
from trainer.qlora.schedule import batch_indices, learning_rate, split_batch

_GIB = 2**30


class ProgressListener(Protocol):
    """Receives a run's progress."""

    def on_step(self, step: int, n_steps: int, values: Mapping[str, float]) -> None:
        """Step number `step`, counted from 1, is done."""

    def on_message(self, sentence: str) -> None:
        """A message for the user."""


class Samples(Protocol):
    """Samples that are made on access."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class TrainingOutcome:
    """How a run ended, `finished` or stopped, with the values of its steps."""

    finished: bool
    position: TrainingPosition

    @property
    def validation(self) -> dict[int, float]:
        """Validation loss by step."""
        return {
            int(values["step"]): values["validation_loss"]
            for values in self.position.history
            if "validation_loss" in values
        }

    @property
    def best_step(self) -> int:
        """The step with the least validation loss; the last one without validation."""
        losses = self.validation
        return min(losses, key=lambda step: (losses[step], step)) if losses else self.position.step


class Training:
    """One run. `stop` is called between samples; when it returns True the run saves and ends."""

    def __init__(
        self,
        model: TrainableLlama,
        recipe: Recipe,
        *,
        train: Samples,
        validation: Samples,
        checkpoints: Checkpoints,
        identity: Mapping[str, str],
        processes: Processes,
        listener: ProgressListener,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._model, self._recipe = model, recipe
        self._train, self._validation = train, validation
        self._checkpoints, self._identity = checkpoints, dict(identity)
        self._processes, self._listener, self._stop = processes, listener, stop
        self._parameters = dict(model.adapter.named())
        self._optimiser = AdamW(
            self._parameters.values(), weight_decay=recipe.weight_decay, lr=recipe.learning_rate
        )
        self.n_steps = recipe.n_steps(len(train))
        self._position = TrainingPosition(0, identity=self._identity)
        self._reader = ThreadPoolExecutor(1)
        self._next: Future[list[Sample]] | None = None

    def resume(self, state: TrainingState) -> None:
        """Resume from a checkpoint, bitwise equal if the device computes deterministically."""
        self._model.adapter.load(state.adapter)
        self._position = state.position
        for name, parameter in self._parameters.items():
            if state.gradients:
                parameter.grad = state.gradients[name].to(parameter.device)
            values = {
                part: state.optimiser[f"{part}.{name}"].clone()
                for part in ("step", "exp_avg", "exp_avg_sq")
                if f"{part}.{name}" in state.optimiser
            }
            if values:
                device = parameter.device
                moved = {k: v if k == "step" else v.to(device) for k, v in values.items()}
                self._optimiser.state[parameter] = moved

    def run(self) -> TrainingOutcome:
        """Train to the end, or until `stop`; the last state is saved in both cases."""
        try:
            while self._position.step < self.n_steps:
                if not self._step():
                    self._save()
                    return TrainingOutcome(False, self._position)
            if self._position.name not in {path.name for path in self._checkpoints.all()}:
                self._save()
            return TrainingOutcome(True, self._position)
        finally:
            self._reader.shutdown(cancel_futures=True)

    def _step(self) -> bool:
        """One optimiser step; False if it was interrupted."""
        started = time.monotonic()
        step = self._position.step
        samples = self._samples(step)
        n_tokens = sum(len(s.response_ids) for s in samples)
        lengths = [len(s.prompt_ids) + len(s.response_ids) for s in samples]
        mine = split_batch(lengths, self._processes.count)[self._processes.rank]
        total = torch.tensor(self._position.loss, dtype=torch.float64)
        losses = [total.to(self._model.device)]
        for place in mine[self._position.n_samples :]:
            if self._stop_now(within=True):
                return self._stopped(losses)
            seed = self._recipe.seed + step * self._recipe.batch + place
            losses.append(self._model.backward(samples[place], 1 / n_tokens, seed).double())
            self._position = _advanced(self._position)
        norm = self._update(step)
        (loss_sum,) = self._processes.all_reduce_sum([float(torch.stack(losses).sum())])
        values = {
            "loss": loss_sum,
            "learning_rate": learning_rate(step, self.n_steps, self._recipe),
            "gradient_norm": norm,
            "tokens_per_second": sum(lengths) / (time.monotonic() - started),
            **self._memory(),
        }
        self._finish_step(step + 1, values)
        return not (self._stop_now(within=False) and step + 1 < self.n_steps)

    def _stopped(self, losses: Sequence[torch.Tensor]) -> bool:
        loss = float(torch.stack(list(losses)).sum())
        self._position = _advanced(self._position, loss=loss, n_more=0)
        return False

    def _update(self, step: int) -> float:
        """Clip the summed gradients, step, and clear them; returns their norm before clipping."""
        parameters = list(self._parameters.values())
        self._processes.all_reduce_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self._recipe.max_grad_norm)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(step, self.n_steps, self._recipe)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._model.adapter.refresh()
        return float(norm)

    def _finish_step(self, step: int, values: dict[str, float]) -> None:
        due = step % self._recipe.save_every == 0 or step == self.n_steps
        if due and len(self._validation):
            values["validation_loss"] = self.validation_loss()
        entry = {"step": float(step), **values}
        history = (*self._position.history, entry)
        self._position = TrainingPosition(step, history=history, identity=self._identity)
        if self._processes.first:
            self._listener.on_step(step, self.n_steps, values)
        if due:
            self._save()

    def validation_loss(self) -> float:
        """Mean loss of an answer's token over the validation samples."""
        total = count = 0.0
        for index in range(self._processes.rank, len(self._validation), self._processes.count):
            losses = self._model.token_losses(self._validation[index])
            total, count = total + float(losses.double().sum()), count + len(losses)
        total, count = self._processes.all_reduce_sum([total, count])
        return total / count

    def _samples(self, step: int) -> list[Sample]:
        """The batch of this step; the next one is tokenised in the background."""
        batch = self._next or self._reader.submit(self._read, step)
        samples = batch.result()
        self._next = self._reader.submit(self._read, step + 1)
        return samples

    def _read(self, step: int) -> list[Sample]:
        if step >= self.n_steps:
            return []
        return [self._train[i] for i in batch_indices(step, len(self._train), self._recipe)]

    def _stop_now(self, *, within: bool) -> bool:
        """Whether to stop; several processes agree on it, between steps only."""
        if self._processes.count == 1:
            return self._stop()
        return not within and self._processes.all_reduce_sum([float(self._stop())])[0] > 0

    def _save(self) -> None:
        if not self._processes.first:
            return
        self._checkpoints.save(self._state())
        best = TrainingOutcome(False, self._position).best_step
        self._checkpoints.prune(self._recipe.keep, {best, *self._recipe.keep_steps})

    def _state(self) -> TrainingState:
        optimiser = {
            f"{part}.{name}": value.detach().cpu().clone()
            for name, parameter in self._parameters.items()
            for part, value in self._optimiser.state.get(parameter, {}).items()
        }
        gradients = {
            name: parameter.grad.cpu()
            for name, parameter in self._parameters.items()
            if parameter.grad is not None
        }
        return TrainingState(self._position, self._model.adapter.tensors(), optimiser, gradients)

    def _memory(self) -> dict[str, float]:
        if self._processes.device.type != "cuda":
            return {}
        return {"peak_gib": torch.cuda.max_memory_reserved(self._processes.device) / _GIB}


def _advanced(
    position: TrainingPosition, *, loss: float | None = None, n_more: int = 1
) -> TrainingPosition:
    return TrainingPosition(
        position.step,
        position.n_samples + n_more,
        position.loss if loss is None else loss,
        position.history,
        position.identity,
    )
