"""`referee sql`: run a read-only query."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import click

from commands.database import ready_database
from commands.output import console, exact_output, table

if TYPE_CHECKING:
    from db.readonly import QueryResult

#: Columns of a table where the output is not a terminal.
_WIDTH = 200


@click.command(short_help="Run a read-only query on the database.")
@click.argument("query")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
)
def sql(query: str, file_format: str) -> None:
    """Ask the database a read-only question; docs/sql.md explains the views."""
    from db.query_process import run_query

    with closing(run_query(ready_database().url, query)) as pages:
        _WRITERS[file_format](pages)


def _write_tables(pages: Iterator[QueryResult]) -> None:
    """One table a page, since a column's width follows from all of its rows."""
    for page in pages:
        console(width=_WIDTH).print(table(page.columns, page.rows))


def _write_csv(pages: Iterator[QueryResult]) -> None:
    from db.exporting import csv_row

    with exact_output() as stream:
        writer = csv.writer(stream)
        for number, page in enumerate(pages):
            if number == 0:
                writer.writerow(csv_row(page.columns))
            writer.writerows(map(csv_row, page.rows))


def _write_json(pages: Iterator[QueryResult]) -> None:
    """A list of objects, as `echo_json` would print it."""
    with exact_output() as stream:
        start = "["
        for page in pages:
            for row in page.rows:
                document = dict(zip(page.columns, row, strict=True))
                text = json.dumps(document, ensure_ascii=False, indent=2)
                stream.write(f"{start}\n  " + text.replace("\n", "\n  "))
                start = ","
        stream.write("[]\n" if start == "[" else "\n]\n")


_WRITERS: dict[str, Callable[[Iterator[QueryResult]], None]] = {
    "table": _write_tables,
    "csv": _write_csv,
    "json": _write_json,
}
