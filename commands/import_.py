"""`referee import`: import reviews that were written elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from commands.database import ready_database


@click.group("import", short_help="Import reviews that were written elsewhere.")
def import_() -> None:
    """Import what was written elsewhere."""


@import_.command("reviews")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--reviewer",
    "reviewer_name",
    required=True,
    metavar="NAME",
    help="Name under which the reviews are stored.",
)
@click.option(
    "--format",
    "file_format",
    required=True,
    type=click.Choice(["openai-batch", "referee", "text"]),
    help="OpenAI Batch output, `referee export --format jsonl`, or {custom_id, text} lines.",
)
@click.option(
    "--aspects",
    metavar="NAME",
    default="7",
    show_default=True,
    help="Aspect set of the texts: 7, 4 or one of your own.",
)
def import_reviews(file: Path, reviewer_name: str, file_format: str, aspects: str) -> None:
    """Import reviews of papers that are in the database already, matched by custom_id.

    Lines without a review (errors, refusals, empty answers) are left out and named; the exit code
    is then 1. Every choice of a completion is a review. `ID#1` is the second sample of the paper
    ID, as in our own exports.
    """
    from dispatch.review_import import import_file

    done = import_file(ready_database(), file, file_format, reviewer_name, aspects)
    cut = f" {done.cut} of them are cut off at a limit of tokens." if done.cut else ""
    click.echo(f"{done.imported} reviews imported, {done.known} already stored.{cut}")
    for sentence in done.problems:
        click.echo(f"referee: {sentence}", err=True)
    if done.problems:
        raise click.exceptions.Exit(1)
