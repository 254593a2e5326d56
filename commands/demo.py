"""`referee demo`: review the example papers and print the reviews."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from commands.output import progress
from commands.signals import interrupt_on_sigterm

if TYPE_CHECKING:
    from db.reviews import ExportLine


@click.command(short_help="Review the example papers on this machine and print the reviews.")
@click.option(
    "--reviewer",
    "reviewer_name",
    default="demo-7",
    show_default=True,
    metavar="NAME",
    help="demo-7 or demo-4.",
)
def demo(reviewer_name: str) -> None:
    """Review the example papers on this machine, without a GPU, and print the reviews."""
    from db.reviews import export
    from settings import get_settings
    from worker import demo as demonstration
    from worker.up import stack

    settings = get_settings()
    config = demonstration.reviewer(reviewer_name)
    demonstration.fetch_model(config, settings, lambda sentence: click.echo(sentence, err=True))
    interrupt_on_sigterm()
    with stack(settings, config) as running:
        click.echo(f"Starting a broker, a database and a worker in {settings.home} ...", err=True)
        running.wait_until_ready(config.queue)
        batch = demonstration.next_batch(running.database)
        with progress("reviewing") as advance:
            status = demonstration.run(running, config, batch, advance)
        for line in export(running.database, batch.name):
            click.echo(f"\n{line.paper_title}\n")
            click.echo(_review_or_error(line))
    _print_next_steps(batch.name, status.counts)


def _review_or_error(line: ExportLine) -> str:
    from commands.review_text import review_text

    if line.review is None:
        return f"{line.custom_id} has no review: {line.error or line.state}"
    review = line.review
    caption = f"{line.custom_id}, reviewed by {review.reviewer} in {review.seconds:.0f} s"
    return review_text(
        caption, review.items, review.empty_aspects, review.unplaced, aspects=review.aspects
    )


def _print_next_steps(batch: str, counts: Mapping[str, int]) -> None:
    click.echo(
        f"{counts['succeeded']} of {counts['total']} papers reviewed in batch {batch}.\n"
        "The reviews are by a 135M-parameter model, so expect little of their content.\n\n"
        "Where to look next:\n"
        "  referee show specter                      one paper's reviews\n"
        f"  referee export {batch} --format md          all of them as Markdown\n"
        '  referee sql "SELECT aspect, title FROM review_flat LIMIT 10"\n'
        "  referee up --reviewer demo-7              keep it running, then: referee submit ..."
    )
    if counts["succeeded"] != counts["total"]:
        sys.exit(1)
