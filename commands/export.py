"""`referee export`: write a batch's reviews to a file."""

from __future__ import annotations

from pathlib import Path

import click

from commands.database import ready_database
from commands.output import exact_output

_FORMATS = ["jsonl", "csv", "md", "openai", "openai-input"]


@click.command(short_help="Write a batch's reviews to a file.")
@click.argument("batch")
@click.option("--format", "file_format", required=True, type=click.Choice(_FORMATS))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Where to (default: standard output); failures go to a file beside it.",
)
def export(batch: str, file_format: str, output: Path | None) -> None:
    """Write a batch's reviews to a file: a line a job, ordered by custom_id and sample.

    With -o reviews.csv the papers without a review are listed in reviews.errors.jsonl. In csv an
    apostrophe stands before a text that a spreadsheet would run as a formula. openai is the output
    of OpenAI's Batch API, openai-input the prompts as its input.
    """
    from commands.review_text import stored_review_text
    from db import reconcile
    from db.exporting import layout, write

    database = ready_database()
    reconcile.expire_deadlines(database)
    if file_format.startswith("openai"):
        from dispatch import openai_batch

        chosen = openai_batch.layout(database, batch, file_format)
    else:
        chosen = layout(file_format, stored_review_text)
    with exact_output():
        written = write(database, batch, chosen, output)
    if output is not None:
        click.echo(f"{written.n_jobs} jobs in {output}", err=True)
    if written.errors is not None:
        click.echo(f"{written.n_errors} without a review: {written.errors}", err=True)
