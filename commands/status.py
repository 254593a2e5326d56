"""`referee status`: show how far batches are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from commands.database import ready_database
from commands.options import json_option
from commands.output import console, echo_json, table

if TYPE_CHECKING:
    from rich.table import Table

    from db.batch_progress import BatchStatus
    from db.flags import Canary

#: How often `--watch` reads the database, in seconds.
_WATCH_SECONDS = 2.0
#: Characters of a canary's words that are quoted.
_QUOTED_CHARS = 200
_COLUMNS = (
    *("batch", "state", "reviewer", "done", "running", "waiting", "failed", "other"),
    *("papers/h", "tokens/s", "cut", "flagged", "to go"),
)


@click.command(short_help="Show the progress of batches.")
@click.argument("batch", required=False)
@click.option("--watch", is_flag=True, help="Keep showing until everything is done.")
@json_option
def status(batch: str | None, watch: bool, as_json: bool) -> None:
    """Show how far a batch is, or all of them."""
    from db import batch_progress, reconcile
    from db.documents import status_document

    database = ready_database()

    def look() -> list[BatchStatus]:
        reconcile.expire_deadlines(database)
        return (
            [batch_progress.status(database, batch)] if batch else batch_progress.statuses(database)
        )

    if as_json:
        documents = [status_document(found) for found in look()]
        echo_json(documents[0] if batch else {"batches": documents})
    elif watch:
        _watch(look)
    else:
        _print_statuses(look())


def _watch(look: Callable[[], list[BatchStatus]]) -> None:
    from rich.live import Live

    from dispatch.waiting import FINISHED

    found = look()
    with Live(_table(found), console=console(), auto_refresh=False) as live:
        while any(status.state not in FINISHED for status in found):
            time.sleep(_WATCH_SECONDS)
            found = look()
            live.update(_table(found), refresh=True)


def _print_statuses(found: list[BatchStatus]) -> None:
    if not found:
        click.echo("No batch was submitted yet.")
        return
    console().print(_table(found))
    for status in found:
        for kind, n in status.errors.items():
            click.echo(f"{status.name}: {n} failed with {kind}")
        for canary in status.canaries:
            click.echo(f"{status.name}: {_canary(canary)}")


def _canary(canary: Canary) -> str:
    return (
        f"{canary.papers} of {canary.of_papers} papers hide the same words, taken for the venue's "
        f"canary and not counted as flagged: {canary.text[:_QUOTED_CHARS]!r}"
    )


def _table(statuses: Sequence[BatchStatus]) -> Table:
    return table(_COLUMNS, map(_cells, statuses), right_aligned=range(8, len(_COLUMNS)))


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
