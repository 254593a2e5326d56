"""What an operator does to a batch: parse, call, print."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cli import ready_database

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
    from db import batches

    number = batches.cancel(ready_database(), batch, custom_ids or None)
    click.echo(f"{number} papers cancelled.")


@click.command(short_help="Queue failed, cancelled and expired papers again.")
@click.argument("batch")
@ids_option
def retry(batch: str, custom_ids: tuple[str, ...]) -> None:
    """Queue failed, cancelled and expired papers again, with all their attempts."""
    from db import batches

    database = ready_database()
    number = batches.retry(database, batch, custom_ids or None)
    click.echo(f"{number} papers queued again.")
    unreadable = batches.unreadable(database, batch)
    if unreadable and not custom_ids:
        click.echo(f"{unreadable} papers could not be read: submit repaired files to the batch.")


@click.command(short_help="Stop handing out a batch's papers; running ones finish.")
@click.argument("batch")
def pause(batch: str) -> None:
    """Stop handing out a batch's papers; running ones finish."""
    from db import batches

    batches.pause(ready_database(), batch)


@click.command(short_help="Hand out a paused batch's papers again.")
@click.argument("batch")
def resume(batch: str) -> None:
    """Hand out a paused batch's papers again."""
    from db import batches

    batches.resume(ready_database(), batch)
