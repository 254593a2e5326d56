"""Output that commands share: JSON documents and progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import click

from dispatch.progress import Progress


def echo_json(document: object) -> None:
    """Print a JSON document on stdout."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Show progress on stderr: a bar on a terminal, a plain line per tenth elsewhere."""
    if sys.stderr.isatty():
        with ProgressBar(label) as bar:
            yield bar
    else:
        yield _PlainProgress(label)


class ProgressBar:
    """A bar on the terminal of stderr: label, count, details of the last update, time left.

    A context manager; unless `transient`, the bar stays on the screen after it.
    """

    def __init__(self, label: str, *, transient: bool = True) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.progress import TimeRemainingColumn as Remaining

        label_text, details = TextColumn("{task.description}"), TextColumn("{task.fields[details]}")
        columns = (label_text, BarColumn(), MofNCompleteColumn(), details, Remaining())
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=transient)
        self._task = self._bar.add_task(label, total=None, details="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int, details: str = "") -> None:
        """Show that `done` of `total` are done."""
        self._bar.update(self._task, completed=done, total=total, details=details)

    def say(self, sentence: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(sentence, highlight=False, markup=False)


class _PlainProgress:
    def __init__(self, label: str) -> None:
        self._label = label
        self._shown = 0

    def __call__(self, done: int, total: int) -> None:
        tenth = done * 10 // total if total else 0
        if tenth > self._shown:
            self._shown = tenth
            click.echo(f"{self._label}: {done}/{total}", err=True)
