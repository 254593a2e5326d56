"""`referee cancel`, `retry`, `pause`, `resume` and `purge`: act on a batch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from commands.database import ready_database
from commands.output import progress
from errors import UserError

F = TypeVar("F", bound=Callable[..., Any])


def ids_option(command: F) -> F:
    """Add --id CUSTOM_ID, which may be repeated."""
    text = "Only this paper; may be repeated."
    option = click.option("--id", "custom_ids", metavar="CUSTOM_ID", multiple=True, help=text)
    return option(command)


@click.command(short_help="Cancel a batch, or single papers of it.")
@click.argument("batch")
@ids_option
def cancel(batch: str, custom_ids: tuple[str, ...]) -> None:
    """Cancel a batch, or single papers of it.

    Queued papers end at once, running ones at their next token; finished reviews stay.
    """
    from db import batch_control

    number = batch_control.cancel(ready_database(), batch, custom_ids or None)
    click.echo(f"{number} papers cancelled.")


@click.command(short_help="Queue failed, cancelled and expired papers again.")
@click.argument("batch")
@ids_option
@click.option(
    "--input",
    "folder",
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="Repaired files for failed papers, named by custom_id; other files are ignored.",
)
def retry(batch: str, custom_ids: tuple[str, ...], folder: Path | None) -> None:
    """Queue failed, cancelled and expired papers again and reset their attempts."""
    from db import batch_control

    database = ready_database()
    if folder is not None:
        sys.exit(_retry_with(folder, database, batch, custom_ids))
    number = batch_control.retry(database, batch, custom_ids or None)
    click.echo(f"{number} papers queued again.")
    without_text = batch_control.without_text(database, batch)
    if without_text and not custom_ids:
        click.echo(
            f"{without_text} papers have no text, because they could not be read or were purged: "
            f"`referee retry {batch} --input DIR` takes repaired files."
        )


def _retry_with(folder: Path, database: Any, batch: str, custom_ids: tuple[str, ...]) -> int:
    from dispatch.resubmit import resubmit
    from settings import get_settings

    with progress("reading") as advance:
        resubmitted = resubmit(folder, database, get_settings(), batch, custom_ids or None, advance)
    for custom_id, error in resubmitted.unreadable:
        click.echo(f"{custom_id}: {error}", err=True)
    click.echo(
        f"{resubmitted.queued} papers queued again, {len(resubmitted.unreadable)} still failed."
    )
    if resubmitted.ignored:
        click.echo(
            f"{resubmitted.ignored} files belong to no failed paper of {batch} and were ignored."
        )
    return 1 if resubmitted.unreadable else 0


@click.command(short_help="Pause a batch; running papers finish.")
@click.argument("batch", required=False)
@click.option("--all", "every", is_flag=True, help="Every unfinished batch.")
def pause(batch: str | None, every: bool) -> None:
    """Pause a batch; running papers finish."""
    from db import batch_control

    _one_or_all(batch, every, batch_control.pause, batch_control.pause_all, "paused")


@click.command(short_help="Resume a paused batch.")
@click.argument("batch", required=False)
@click.option("--all", "every", is_flag=True, help="Every paused batch.")
def resume(batch: str | None, every: bool) -> None:
    """Resume a paused batch."""
    from db import batch_control

    _one_or_all(batch, every, batch_control.resume, batch_control.resume_all, "resumed")


def _one_or_all(
    batch: str | None,
    every: bool,
    one: Callable[[Any, str], None],
    all_of_them: Callable[[Any], list[str]],
    done: str,
) -> None:
    if (batch is None) != every:
        raise UserError("Name a batch, or give --all.")
    if batch is not None:
        one(ready_database(), batch)
        return
    for name in all_of_them(ready_database()):
        click.echo(f"{name} {done}.")


@click.command(short_help="Delete the texts of a batch's papers and reviews; keep its records.")
@click.argument("batch")
@ids_option
@click.option("--keep-reviews", is_flag=True, help="Delete the papers' texts only.")
@click.option("--yes", is_flag=True, help="Delete; otherwise only say what would be deleted.")
def purge(batch: str, custom_ids: tuple[str, ...], keep_reviews: bool, yes: bool) -> None:
    """Delete the texts of a finished batch: papers, reviews, raw answers, cache entries.

    Hashes, events, counts and scores stay. Without --yes nothing is deleted. Backups and exports
    keep what they have.
    """
    from db import purging
    from papers.reading_cache import ReadingCache
    from settings import get_settings

    database = ready_database()
    chosen = custom_ids or None
    found = purging.purge(database, batch, chosen, keep_reviews=keep_reviews, dry_run=not yes)
    if yes:
        with ReadingCache(get_settings().home / "cache") as cache:
            n_cached = cache.forget(map(Path, purging.sources(database, batch, chosen)))
        click.echo(f"Deleted: {_contents(found)}; {n_cached} papers in the reading cache.")
    else:
        click.echo(f"Would be deleted: {_contents(found)}. Give --yes to delete it.")
    if found.shared:
        click.echo(f"{found.shared} papers keep their text: other jobs use them too.")


def _contents(found: Any) -> str:
    return (
        f"the text of {found.papers} papers, {found.reviews} reviews, "
        f"{found.rejected_answers} rejected answers"
    )
