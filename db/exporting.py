"""Export of a batch as JSONL, CSV or Markdown, with a separate file of papers without a review.

Lines are streamed: a hundred thousand reviews would not fit into memory. A file appears under its
name only when it is complete.
"""

from __future__ import annotations

import csv
import gc
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pydantic_core import to_json

from db.documents import error_document, export_document, flag_document
from db.reviews import ExportLine, ReviewView, export
from db.session import Database
from errors import MissingPart

Writer = Callable[[ExportLine], None]
ReviewFormatter = Callable[[ReviewView], str]


_CSV_COLUMNS = (
    *("batch", "custom_id", "sample", "state", "paper_sha256", "paper_title", "reviewer"),
    *("version", "review", "aspect", "position", "title", "text", "flags"),
)


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote; `errors` is the file of papers without a review, if there is one."""

    n_jobs: int
    n_errors: int
    errors: Path | None


def has_review(line: ExportLine) -> bool:
    """Whether the job has a review."""
    return line.review is not None


#: Beginnings of a cell that a spreadsheet takes for a formula, which may run programs or send data.
_FORMULA = re.compile(r"[=+\-@\t\r＝＋－＠]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def csv_row(row: Iterable[Any]) -> list[Any]:
    """The row with an apostrophe before each text that a spreadsheet would run as a formula."""
    return [
        f"'{cell}"
        if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell)
        else cell
        for cell in row
    ]


def _encode(document: dict[str, Any]) -> str:
    # Pydantic's encoder takes a fifth of the time of the standard library's.
    return to_json(document).decode()


def failure(line: ExportLine) -> str:
    """The line of a job without a review in the error file."""
    about = {"batch": line.batch, "custom_id": line.custom_id, "sample": line.sample}
    about |= {"state": line.state, "source": line.source, "error": error_document(line)}
    about |= {"flags": [flag_document(flag) for flag in line.flags]}
    return _encode(about) + "\n"


@dataclass(frozen=True)
class ExportFormat:
    """How jobs are written to a file.

    `open` makes the writer, which gets every job, or with `separate_failures` only the complete
    ones; `failure` formats the line of the others in the error file.
    """

    open: Callable[[TextIO], Writer]
    complete: Callable[[ExportLine], bool] = has_review
    failure: Callable[[ExportLine], str] = failure
    separate_failures: bool = False
    with_text: bool = False


def layout(file_format: str, as_text: ReviewFormatter) -> ExportFormat:
    """The format of this name; `as_text` formats a review for Markdown."""
    if file_format == "csv":
        return ExportFormat(_csv_writer)
    if file_format == "md":
        return ExportFormat(lambda stream: _markdown_writer(stream, as_text))
    return ExportFormat(_jsonl_writer)


def write(
    database: Database, batch: str, layout: ExportFormat, output: Path | None
) -> ExportResult:
    """Export a batch, without `output` to standard output, incomplete jobs included."""
    lines = export(database, batch, with_text=layout.with_text)
    if output is None:
        failures = sys.stdout if layout.separate_failures else None
        return ExportResult(_write_all(lines, layout, sys.stdout, failures)[0], 0, None)
    errors = output.with_name(f"{output.stem}.errors.jsonl")
    with ExitStack() as files:
        main = files.enter_context(_atomic_file(output))
        failures = files.enter_context(_atomic_file(errors))
        n_jobs, n_errors = _write_all(lines, layout, main, failures)
    if not n_errors:
        errors.unlink()
    return ExportResult(n_jobs, n_errors, errors if n_errors else None)


def _write_all(
    lines: Iterable[ExportLine], layout: ExportFormat, main: TextIO, failures: TextIO | None
) -> tuple[int, int]:
    write_line = layout.open(main)
    n_jobs = n_errors = 0
    with _gc_disabled():
        for line in lines:
            n_jobs += 1
            complete = layout.complete(line)
            if complete or not layout.separate_failures:
                write_line(line)
            if not complete and failures is not None:
                n_errors += 1
                failures.write(layout.failure(line))
    return n_jobs, n_errors


@contextmanager
def _gc_disabled() -> Iterator[None]:
    """Turn the garbage collector off: an export makes many objects but no cycles, and collections
    take a fifth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _atomic_file(path: Path) -> Iterator[TextIO]:
    """A file that replaces `path` once it is complete."""
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        draft.replace(path)
    except OSError as error:
        raise MissingPart(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)


def _jsonl_writer(stream: TextIO) -> Writer:
    def write_line(line: ExportLine) -> None:
        stream.write(_encode(export_document(line)) + "\n")

    return write_line


def _csv_writer(stream: TextIO) -> Writer:
    """One row per item; a job without items has one row."""
    table = csv.writer(stream)
    table.writerow(_CSV_COLUMNS)

    def write_line(line: ExportLine) -> None:
        head = [line.batch, line.custom_id, line.sample, line.state]
        head += [line.paper_sha256, line.paper_title]
        flags = "; ".join(map(str, line.flags)) or None
        if line.review is None:
            empty = [None] * (len(_CSV_COLUMNS) - len(head) - 1)
            table.writerow(csv_row([*head, *empty, flags]))
            return
        head += [line.review.reviewer, line.review.version, line.review.id]
        items = [[i.aspect, i.position, i.title, i.text] for i in line.review.items]
        table.writerows(csv_row([*head, *item, flags]) for item in items or [[None] * 4])

    return write_line


def _markdown_writer(stream: TextIO, as_text: ReviewFormatter) -> Writer:
    def write_line(line: ExportLine) -> None:
        stream.write(f"# {line.custom_id}: {line.paper_title or 'unread'}\n\n")
        about = f"*{line.state}: {line.error}*\n" if line.error else f"*{line.state}*\n"
        stream.writelines(f"* Flag: {flag}\n" for flag in line.flags)
        stream.write("\n" if line.flags else "")
        stream.write(about if line.review is None else as_text(line.review))
        stream.write("\n")

    return write_line
