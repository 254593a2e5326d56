"""`referee data`: import, clean, merge and build training data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from commands.database import ready_database
from commands.merge import merge, source_option
from commands.options import json_option
from commands.output import echo_json, progress


@click.group(short_help="Make training data: import, clean, merge, build, stats.")
def data() -> None:
    """Make training data: import, clean, merge, build, stats.

    \b
    referee data import ../shared/data/treereview
    referee data clean
    referee data merge --engine structured
    referee data build sets/demo-7 --reviewer demo-7
    """


@data.command("import", short_help="Import papers with their human reviews.")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--source", "name", metavar="NAME", help="Name of the source [default: PATH's].")
@click.option("--licence", metavar="NAME", help="The source's licence [default: none stated].")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["openreview", "peerread", "jsonl", "pairs"]),
    help="Layout of the source [default: detected].",
)
@click.option(
    "--texts",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the papers of OpenReview notes: FORUM.pdf, or FORUM_VERSION.pdf.",
)
@json_option
def import_data(
    path: Path,
    name: str | None,
    licence: str | None,
    layout: str | None,
    texts: Path | None,
    as_json: bool,
) -> None:
    """Import papers with their human reviews; running it again adds nothing.

    PATH is a file of OpenReview notes (API v1 or v2), a folder with papers.jsonl and reviews.jsonl,
    a PeerRead folder, or a file of {"paper", "review"} lines. Of a paper's versions the one that
    its reviewers saw is taken; the reason is recorded.
    """
    from settings import get_settings
    from trainer.data.source_import import ImportSource, import_source

    source = ImportSource(path, name or path.name.split(".")[0], licence, layout, texts)
    with progress("reading") as advance:
        done = import_source(ready_database(), source, get_settings(), advance)
    if as_json:
        echo_json(vars(done))
    else:
        _print_import(done)
    for sentence in done.problems:
        click.echo(f"referee: {sentence}", err=True)
    if done.problems:
        raise click.exceptions.Exit(1)


def _print_import(done: Any) -> None:
    notes = ", ".join(f"{count} {kind}" for kind, count in sorted(done.notes.items()))
    click.echo(
        f"{done.source} ({done.layout}): {done.papers} papers, {done.new_papers} of them new"
    )
    click.echo(f"  notes: {notes or 'none'}; {done.new_reviews} of them new")
    for why, count in sorted(done.versions.items()):
        click.echo(f"  version: {why}: {count}")


@data.command("clean", short_help="Flag data that must not be trained on, by named rules.")
@click.option(
    "--min-reviews", default=2, show_default=True, help="Usable reviews that a paper needs."
)
@click.option(
    "--short-percentile",
    default=1.0,
    show_default=True,
    help="Exclude papers shorter than this percentile.",
)
@click.option(
    "--long-percentile",
    default=99.0,
    show_default=True,
    help="Exclude papers longer than this percentile.",
)
@json_option
def clean(min_reviews: int, short_percentile: float, long_percentile: float, as_json: bool) -> None:
    """Flag data that must not be trained on, by named rules; nothing is deleted."""
    from trainer.data.cleaning_rules import Thresholds
    from trainer.data.corpus_cleaning import clean_corpus

    thresholds = Thresholds(min_reviews, short_percentile, long_percentile)
    _print_stats(clean_corpus(ready_database(), thresholds), as_json=as_json)


@data.command("stats")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the table and the lengths as an SVG file.",
)
@json_option
def stats(plot: Path | None, as_json: bool) -> None:
    """Show the training data: what was kept, what was not, and why."""
    from trainer.data.corpus_cleaning import statistics

    found = statistics(ready_database())
    _print_stats(found, as_json=as_json)
    if plot is not None:
        from trainer.data.corpus_figure import draw

        plot.write_text(draw(found), encoding="utf-8")
        click.echo(f"Drawn: {plot}", err=True)


def _print_stats(found: Any, *, as_json: bool) -> None:
    if as_json:
        echo_json(found.to_json())
    else:
        from commands.output import print_tables

        print_tables(found.tables())


@data.command("build", short_help="Write a data set, split by paper, with a card.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--reviewer",
    "reviewer_name",
    required=True,
    metavar="NAME",
    help="Local reviewer to be trained: its template, tokenizer and limits are used.",
)
@click.option(
    "--merged",
    "merged_name",
    metavar="NAME",
    help="Reviewer whose reviews are the targets [default: merged-structured-ASPECTS].",
)
@source_option
@click.option(
    "--splits",
    "split_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON with the papers of train, dev and test; papers not named there are left out.",
)
@click.option("--validation-share", default=0.1, show_default=True, help="Part of the papers.")
@click.option("--test-share", default=0.1, show_default=True, help="Part of the papers.")
@click.option("--seed", default=42, show_default=True, help="Seed of the random split.")
@click.option("--name", metavar="NAME", help="Name of the data set [default: FOLDER's].")
@click.option("--replace", is_flag=True, help="Replace a data set in FOLDER.")
@json_option
def build(
    folder: Path,
    reviewer_name: str,
    merged_name: str | None,
    validation_share: float,
    test_share: float,
    name: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write papers and merged reviews as a data set, split by paper, with a card.

    Without --source, sources with a non-commercial licence are left out.
    """
    from commands.output import print_tables
    from dispatch import roster
    from settings import get_settings
    from trainer.data.dataset_build import BuildOptions, build, target_of
    from trainer.data.dataset_card import tables
    from trainer.data.splitting import SplitShares

    database = ready_database()
    _, config = roster.resolve(database, reviewer_name)
    target = target_of(config, get_settings())
    merged, _ = roster.resolve(database, merged_name or f"merged-structured-{config.aspects}")
    shares = SplitShares(validation_share, test_share)
    made = build(
        database,
        merged,
        target,
        BuildOptions(folder, name or folder.name, shares=shares, **options),
    )
    if as_json:
        echo_json({"folder": str(folder), "sha256": made.card.sha256, "counts": made.card.counts})
    else:
        print_tables(tables(made.card))
        click.echo(f"{folder}: sha256 {made.card.sha256}")


data.add_command(merge)
