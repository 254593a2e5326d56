"""`referee report`: write a report of comparisons."""

from __future__ import annotations

from pathlib import Path

import click

from commands.database import ready_database
from commands.options import json_option
from commands.output import echo_json, progress


@click.command(short_help="Write a report of comparisons: HTML, charts, Markdown, JSON.")
@click.argument("comparisons", nargs=-1, required=True, type=click.IntRange(min=1))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False), metavar="DIR"
)
@click.option(
    "--no-texts",
    is_flag=True,
    help="Figures only: of a paper no text but its title.",
)
@json_option
def report(comparisons: tuple[int, ...], output: Path, no_texts: bool, as_json: bool) -> None:
    """Write a report of one or more comparisons, by their numbers, into the folder DIR.

    `referee sql "SELECT * FROM pk_summary"` lists the comparisons. The report is made from the
    database alone; its pages need no network and no JavaScript. A reviewer is called better or
    worse where p is at most 0.05, adjusted by Holm's method over all comparisons.
    """
    from judge.report import text_formats, words
    from judge.report.figures import decisions
    from judge.report.writer import write_report

    database = ready_database()
    with progress("pages") as show:
        found = write_report(database, comparisons, output, show, texts=not no_texts)
    decided = decisions(found)
    if as_json:
        echo_json(text_formats.document(found, decided))
        return
    for each in found:
        click.echo(words.verdict(each, decided.get(each.record.id)))
    click.echo(f"The report is in {output / 'index.html'}.")
