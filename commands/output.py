"""Output that commands share: the terminal's streams, tables, JSON documents and progress.

Names, titles, answers and errors come from authors, models and other people. What they contain must
neither steer a terminal nor be taken for markup.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOBase, TextIOWrapper
from typing import TYPE_CHECKING, Any, Self, TextIO

import click

from dispatch.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from trainer.data.text_table import Table as TextTable

#: Columns of a table where the output is not a terminal.
TABLE_WIDTH = 160
#: Characters that steer a terminal: controls but tab and newline, and changes of direction.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

#: What a progress bar writes to reach its line.
_MOVES = re.compile(r"(?:\n|\x1b\[A)+")


def printable(text: str) -> str:
    """The text with characters that steer a terminal as `\\u....`, which JSON reads the same."""
    return _STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text.replace("\r\n", "\n"))


class TerminalStream(TextIOBase):
    """A standard stream on which every text is printable; `exact` is the stream itself."""

    def __init__(self, exact: TextIO) -> None:
        self.exact = exact

    def __getattr__(self, name: str) -> Any:
        return getattr(self.exact, name)

    def write(self, text: str, /) -> int:
        # Libraries draw progress bars so; a text of others never stands alone in such a write.
        bar = text.startswith("\r") and "\n" not in text
        if bar or _MOVES.fullmatch(text):
            self.exact.write("\r" + printable(text[1:]) if bar else text)
        else:
            self.exact.write(printable(text))
        return len(text)

    def flush(self) -> None:
        self.exact.flush()

    def isatty(self) -> bool:
        return self.exact.isatty()

    def fileno(self) -> int:
        return self.exact.fileno()

    # TextIOBase has these two already, so __getattr__ is not asked for them.
    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed: a writable attribute
        return self.exact.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # as above
        return self.exact.errors


def protect_terminal() -> None:
    """Make all output of this process printable, in UTF-8 where the locale names no encoding."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            ascii_only = stream.encoding.lower() in ("ascii", "ansi_x3.4-1968", "us-ascii")
            encoding = "utf-8" if ascii_only else None
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
            setattr(sys, name, TerminalStream(stream))


@contextmanager
def exact_output() -> Iterator[TextIO]:
    """Let data reach a file or a pipe as it is; a terminal still gets what is printable."""
    stream = sys.stdout
    if not stream.isatty():
        sys.stdout = _exact(stream)
    try:
        yield sys.stdout
    finally:
        sys.stdout = stream


def _exact(stream: TextIO) -> TextIO:
    return stream.exact if isinstance(stream, TerminalStream) else stream


def console(*, stderr: bool = False, width: int = TABLE_WIDTH) -> Console:
    """A console for markup of our own; texts of others must be `printable` on it."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=_exact(stream), width=None if stream.isatty() or stderr else width)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right_aligned: Iterable[int] = (),
) -> Table:
    """A table whose cells are shown as they are; the columns of these numbers are right-aligned."""
    from rich.table import Table
    from rich.text import Text

    def cell(value: object) -> Text:
        return Text("" if value is None else printable(str(value)))

    drawn, right = Table(), frozenset(right_aligned)
    for number, column in enumerate(columns):
        drawn.add_column(cell(column), justify="right" if number in right else "left")
    for row in rows:
        drawn.add_row(*map(cell, row))
    return drawn


def print_tables(tables: Iterable[TextTable]) -> None:
    """Print the tables that have rows, one below the other; numbers are right-aligned."""
    for found in tables:
        if found.rows:
            numbers = [
                number
                for number in range(len(found.columns))
                if all(isinstance(row[number], int | float) for row in found.rows)
            ]
            drawn = table(found.columns, found.rows, right_aligned=numbers)
            console(width=120).print(drawn)


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
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.progress import TimeRemainingColumn as Remaining

        label_text = TextColumn("{task.description}", markup=False)
        details = TextColumn("{task.fields[details]}", markup=False)
        columns = (label_text, BarColumn(), MofNCompleteColumn(), details, Remaining())
        self._bar = RichProgress(*columns, console=console(stderr=True), transient=transient)
        self._task = self._bar.add_task(printable(label), total=None, details="")

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
        self._bar.console.print(printable(sentence), highlight=False, markup=False)


class _PlainProgress:
    def __init__(self, label: str) -> None:
        self._label = label
        self._shown = 0

    def __call__(self, done: int, total: int) -> None:
        tenth = done * 10 // total if total else 0
        if tenth > self._shown:
            self._shown = tenth
            click.echo(f"{self._label}: {done}/{total}", err=True)
