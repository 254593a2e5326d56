"""Tables for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows under column names; numbers are right-aligned."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def print_tables(tables: Iterable[Table]) -> None:
    """Print the tables that have rows, one below the other."""
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in tables:
        if not table.rows:
            continue
        drawn = RichTable()
        for number, column in enumerate(table.columns):
            is_number = all(isinstance(row[number], int | float) for row in table.rows)
            drawn.add_column(column, justify="right" if is_number else "left")
        for row in table.rows:
            drawn.add_row(*map(str, row))
        console.print(drawn)
