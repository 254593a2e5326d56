"""`referee sql`: run a read-only query."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING

import click

from commands.database import ready_database
from commands.output import echo_json

if TYPE_CHECKING:
    from db.readonly import QueryResult


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
    from db.readonly import select

    database = ready_database()
    rows = select(database.url, query)
    if file_format == "json":
        echo_json([dict(zip(rows.columns, row, strict=True)) for row in rows.rows])
    else:
        _print_rows(rows, file_format)


def _print_rows(rows: QueryResult, file_format: str) -> None:
    if file_format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(rows.columns)
        writer.writerows(rows.rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows.columns)
    for row in rows.rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
