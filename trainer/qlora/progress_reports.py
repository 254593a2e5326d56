"""Listeners for a run's progress: terminal, plain lines, database, TensorBoard."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TextIO

from db import training_runs as runs
from db.session import Database
from trainer.qlora.training_loop import ProgressListener

#: Plain lines are written at most this often, in seconds, except for the last step.
_LINE_SECONDS = 10.0


class ListenerGroup:
    """Forwards to several listeners."""

    def __init__(self, listeners: Sequence[ProgressListener]) -> None:
        self._listeners = listeners

    def on_step(self, step: int, n_steps: int, values: Mapping[str, float]) -> None:
        """Forward a finished step."""
        for listener in self._listeners:
            listener.on_step(step, n_steps, values)

    def on_message(self, sentence: str) -> None:
        """Forward a message."""
        for listener in self._listeners:
            listener.on_message(sentence)


class PlainTextListener:
    """One line a step to stderr, less often when steps are quick."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._started: tuple[float, int] | None = None
        self._written = -_LINE_SECONDS

    def on_step(self, step: int, n_steps: int, values: Mapping[str, float]) -> None:
        """Write a line, at most every few seconds."""
        at = time.monotonic()
        self._started = self._started or (at, step)
        quiet = at - self._written < _LINE_SECONDS and step < n_steps
        if quiet and "validation_loss" not in values:
            return
        self._written = at
        self.on_message(
            f"step {step}/{n_steps}  {_values(values)}  {self._remaining(at, step, n_steps)}"
        )

    def on_message(self, sentence: str) -> None:
        """Write a line."""
        print(sentence, file=self._stream, flush=True)

    def _remaining(self, at: float, step: int, n_steps: int) -> str:
        began, first = self._started or (at, step)
        if step == first:
            return ""
        return f"{_span((at - began) / (step - first) * (n_steps - step))} left"


class Bar(Protocol):
    """A progress bar that shows details and lets lines be printed above it."""

    def __call__(self, done: int, total: int, details: str = "") -> None:
        """Show how many of how many are done."""

    def say(self, sentence: str) -> None:
        """Print a line above the bar."""


class ProgressBarListener:
    """Moves a progress bar with every step; its details are the step's values."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def on_step(self, step: int, n_steps: int, values: Mapping[str, float]) -> None:
        """Move the bar."""
        self._bar(step, n_steps, _values(values))

    def on_message(self, sentence: str) -> None:
        """Write above the bar."""
        self._bar.say(sentence)


class DatabaseListener:
    """Stores every step's values."""

    def __init__(self, database: Database, run_id: int) -> None:
        self._database, self._run_id = database, run_id

    def on_step(self, step: int, n_steps: int, values: Mapping[str, float]) -> None:
        """Store them."""
        runs.record(self._database, self._run_id, step, values)

    def on_message(self, sentence: str) -> None:
        """Ignored: messages are for people."""


class TensorBoardListener:
    """Event files for TensorBoard, where its package is installed."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    @staticmethod
    def available() -> bool:
        """Whether the package is installed."""
        return find_spec("tensorboard") is not None

    def on_step(self, step: int, n_steps: int, values: Mapping[str, float]) -> None:
        """Write them."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        if step == n_steps:
            self._writer.close()

    def on_message(self, sentence: str) -> None:
        """Ignored: messages are for people."""


def _values(values: Mapping[str, float]) -> str:
    parts = [f"loss {values['loss']:.4f}", f"lr {values['learning_rate']:.1e}"]
    parts.append(f"{values['tokens_per_second']:,.0f} tokens/s")
    if "peak_gib" in values:
        parts.append(f"{values['peak_gib']:.1f} GiB")
    if "validation_loss" in values:
        parts.append(f"validation loss {values['validation_loss']:.4f}")
    return "  ".join(parts)


def _span(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{int(seconds):02}s"
