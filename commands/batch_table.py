"""Batches and rows as text for a terminal."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from db.batch_progress import BatchStatus
from db.readonly import QueryResult


def status_table(statuses: Sequence[BatchStatus]) -> Table:
    """A row a batch."""
    table = Table("batch", "state", "reviewer", "done", "running", "waiting", "failed", "other")
    for heading in ("papers/h", "tokens/s", "cut", "flagged", "to go"):
        table.add_column(heading, justify="right")
    for status in statuses:
        table.add_row(*_cells(status))
    return table


def _cells(status: BatchStatus) -> list[str]:
    counts = status.counts
    speed = status.output_tokens / status.seconds if status.seconds else None
    return [
        status.name,
        status.state,
        f"{status.reviewer} v{status.version}",
        f"{counts['succeeded']}/{counts['total']}",
        *(str(counts[state]) for state in ("running", "queued", "failed")),
        str(counts["cancelled"] + counts["expired"]),
        _number(status.papers_per_hour),
        _number(speed),
        str(status.truncated_papers),
        str(status.flagged_papers),
        _span(status.eta_s),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def ago(seconds: float) -> str:
    """How long ago something was, in words."""
    if seconds < 2:
        return "just now"
    units = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
    # From two on in each unit, so that there is no plural to get wrong.
    size, unit = next((size, unit) for size, unit in units if seconds >= 2 * size)
    return f"{seconds // size:.0f} {unit} ago"


def print_rows(rows: QueryResult, file_format: str) -> None:
    """A query's answer as a table, or as CSV for other programs."""
    if file_format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(rows.columns)
        writer.writerows(rows.rows)
        return
    table = Table(*rows.columns)
    for row in rows.rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
