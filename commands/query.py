"""The commands that ask the database: parse, call, print."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from commands.database import ready_database
from commands.options import json_option
from commands.output import echo_json, progress
from errors import UserError

#: How often `status --watch` looks, in seconds.
_WATCH_SECONDS = 2.0
_EXPORTS = ["jsonl", "csv", "md", "openai", "openai-input"]


@click.command(short_help="Show how far batches are.")
@click.argument("batch", required=False)
@click.option("--watch", is_flag=True, help="Keep showing until everything is done.")
@json_option
def status(batch: str | None, watch: bool, as_json: bool) -> None:
    """Show how far a batch is, or all of them."""
    from db import batch_progress, reconcile
    from db.documents import status_document

    database = ready_database()

    def look() -> list[Any]:
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


def _watch(look: Any) -> None:
    from rich.live import Live

    from commands.batch_table import status_table
    from dispatch.waiting import FINISHED

    found = look()
    with Live(status_table(found), auto_refresh=False) as live:
        while any(status.state not in FINISHED for status in found):
            time.sleep(_WATCH_SECONDS)
            found = look()
            live.update(status_table(found), refresh=True)


def _print_statuses(found: list[Any]) -> None:
    from rich.console import Console

    from commands.batch_table import status_table

    if not found:
        click.echo("No batch was submitted yet.")
        return
    Console(width=None if sys.stdout.isatty() else 160).print(status_table(found))
    for status in found:
        for kind, n in status.errors.items():
            click.echo(f"{status.name}: {n} failed with {kind}")


@click.command(short_help="Show the reviews of a paper.")
@click.argument("id", metavar="ID")
@click.option("--raw", is_flag=True, help="The model's answer as it came.")
@json_option
def show(id: str, raw: bool, as_json: bool) -> None:
    """Show the reviews of a paper by aspect.

    ID is a custom_id, the beginning of a paper's sha256, a paper's id or a review's id.
    """
    from db.documents import paper_document, review_document
    from db.reviews import find

    papers = find(ready_database(), id)
    if not papers:
        raise UserError(f"There is no paper or review {id!r}.")
    if as_json:
        documents = [
            {"paper": paper_document(p), "reviews": [review_document(r) for r in p.reviews]}
            for p in papers
        ]
        echo_json(documents[0] if len(documents) == 1 else {"papers": documents})
        return
    for paper in papers:
        click.echo(f"{paper.title}\n{paper.sha256[:12]}\n")
        for review in paper.reviews:
            click.echo(review.raw if raw else _as_text(review))
        if not paper.reviews:
            click.echo("No review yet.")


def _as_text(review: Any) -> str:
    from commands.review_text import review_text

    caption = f"{review.reviewer}, version {review.version}, review {review.id}"
    return review_text(caption, review.items, review.empty_aspects, review.unplaced)


@click.command(short_help="Write a batch's reviews to a file.")
@click.argument("batch")
@click.option("--format", "file_format", required=True, type=click.Choice(_EXPORTS))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Where to (default: standard output); failures go to a file beside it.",
)
def export(batch: str, file_format: str, output: Path | None) -> None:
    """Write a batch's reviews to a file: a line a job, ordered by custom_id and sample.

    With -o reviews.csv the papers without a review are listed in reviews.errors.jsonl. openai is
    the output of OpenAI's Batch API, openai-input the prompts as its input.
    """
    from db import reconcile
    from db.exporting import layout, write

    database = ready_database()
    reconcile.expire_deadlines(database)
    if file_format.startswith("openai"):
        from dispatch import openai_batch

        chosen = openai_batch.layout(database, batch, file_format)
    else:
        chosen = layout(file_format, _as_text)
    written = write(database, batch, chosen, output)
    if output is not None:
        click.echo(f"{written.n_jobs} jobs in {output}", err=True)
    if written.errors is not None:
        click.echo(f"{written.n_errors} without a review: {written.errors}", err=True)


@click.command(short_help="Ask the database a read-only question.")
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
    from commands.batch_table import print_rows
    from db.readonly import select

    database = ready_database()
    rows = select(database.url, query)
    if file_format == "json":
        echo_json([dict(zip(rows.columns, row, strict=True)) for row in rows.rows])
    else:
        print_rows(rows, file_format)


@click.group(short_help="Create, upgrade and check the database.")
def db() -> None:
    """Create, upgrade and check the database."""


@db.command()
@click.argument("revision", default="head")
def upgrade(revision: str) -> None:
    """Bring the schema to the newest revision, or to REVISION."""
    from db import migrate

    with progress("upgrading"):
        migrate.upgrade(_url(), revision)
    click.echo(f"The database is at revision {migrate.current(_url())}.")


@db.command()
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask; data in newer columns and tables is lost.")
def downgrade(revision: str, yes: bool) -> None:
    """Take the schema back to REVISION ("base" empties the database)."""
    from db import migrate

    if not yes and not click.confirm("Data in newer columns and tables will be lost. Go on?"):
        raise UserError("Nothing was changed.")
    migrate.downgrade(_url(), revision)
    click.echo(f"The database is at revision {migrate.current(_url())}.")


@db.command()
def current() -> None:
    """Print the schema's revision and the one this version needs."""
    from db import migrate

    click.echo(f"{migrate.current(_url())} (this version needs {migrate.head()})")


@db.command()
def check() -> None:
    """Compare the database's schema with the models; exit 3 when they differ."""
    from db import migrate

    differences = migrate.check(_url())
    for difference in differences:
        click.echo(difference)
    if differences:
        raise click.exceptions.Exit(3)
    click.echo("The schema is as it should be.")


def _url() -> str:
    from settings import get_settings

    return get_settings().database
