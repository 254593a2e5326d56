"""A batch as files: JSONL, CSV, Markdown, and a separate file of what has no review.

Streams: a hundred thousand reviews never lie in memory at once. A file appears under its name only
when it is whole.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from db.documents import error_document, export_document
from db.reading import ExportLine, ReviewView, export
from db.session import Database
from errors import MissingPart

Writer = Callable[[ExportLine], None]
AsText = Callable[[ReviewView], str]

_CSV_COLUMNS = (
    *("batch", "custom_id", "sample", "state", "paper_sha256", "paper_title", "reviewer"),
    *("version", "review", "aspect", "position", "title", "text"),
)


@dataclass(frozen=True)
class Written:
    """What an export wrote; `errors` is the file of papers without a review, if there is one."""

    n_jobs: int
    n_errors: int
    errors: Path | None


def write(
    database: Database, batch: str, file_format: str, output: Path | None, as_text: AsText
) -> Written:
    """Export a batch; `as_text` lays a review out for Markdown.

    Without `output` everything goes to standard output, jobs without a review included.
    """
    lines = export(database, batch)
    if output is None:
        n_jobs = _write_all(lines, _writer(file_format, sys.stdout, as_text), None)[0]
        return Written(n_jobs, 0, None)
    errors = output.with_name(f"{output.stem}.errors.jsonl")
    with ExitStack() as files:
        main = files.enter_context(_whole(output))
        failures = files.enter_context(_whole(errors))
        n_jobs, n_errors = _write_all(lines, _writer(file_format, main, as_text), failures)
    if not n_errors:
        errors.unlink()
    return Written(n_jobs, n_errors, errors if n_errors else None)


def _write_all(
    lines: Iterable[ExportLine], write_line: Writer, failures: TextIO | None
) -> tuple[int, int]:
    n_jobs = n_errors = 0
    for line in lines:
        n_jobs += 1
        write_line(line)
        if line.review is None and failures is not None:
            n_errors += 1
            failures.write(_failure(line))
    return n_jobs, n_errors


def _failure(line: ExportLine) -> str:
    about = {"batch": line.batch, "custom_id": line.custom_id, "sample": line.sample}
    about |= {"state": line.state, "source": line.source, "error": error_document(line)}
    return json.dumps(about, ensure_ascii=False) + "\n"


@contextmanager
def _whole(path: Path) -> Iterator[TextIO]:
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


def _writer(file_format: str, stream: TextIO, as_text: AsText) -> Writer:
    if file_format == "csv":
        return _csv_writer(stream)
    return _markdown_writer(stream, as_text) if file_format == "md" else _jsonl_writer(stream)


def _jsonl_writer(stream: TextIO) -> Writer:
    def write_line(line: ExportLine) -> None:
        stream.write(json.dumps(export_document(line), ensure_ascii=False) + "\n")

    return write_line


def _csv_writer(stream: TextIO) -> Writer:
    """A row an item; a job without items still has its row."""
    table = csv.writer(stream)
    table.writerow(_CSV_COLUMNS)

    def write_line(line: ExportLine) -> None:
        head = [line.batch, line.custom_id, line.sample, line.state]
        head += [line.paper_sha256, line.paper_title]
        if line.review is None:
            table.writerow(head + [None] * (len(_CSV_COLUMNS) - len(head)))
            return
        head += [line.review.reviewer, line.review.version, line.review.id]
        items = [[i.aspect, i.position, i.title, i.text] for i in line.review.items]
        table.writerows(head + item for item in items or [[None] * 4])

    return write_line


def _markdown_writer(stream: TextIO, as_text: AsText) -> Writer:
    def write_line(line: ExportLine) -> None:
        stream.write(f"# {line.custom_id}: {line.paper_title or 'unread'}\n\n")
        about = f"*{line.state}: {line.error}*\n" if line.error else f"*{line.state}*\n"
        stream.write(about if line.review is None else as_text(line.review))
        stream.write("\n")

    return write_line
