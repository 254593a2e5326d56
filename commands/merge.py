"""`referee data merge`: parse, call, print."""

from __future__ import annotations

from typing import Any

import click

from commands.database import ready_database
from commands.options import json_option
from commands.output import echo_json, progress
from errors import UserError

source_option = click.option(
    "--source", "sources", multiple=True, metavar="NAME", help="Only papers of this source."
)


@click.command(short_help="Merge the human reviews of each paper into one, by aspect.")
@click.option(
    "--engine",
    type=click.Choice(["structured", "api", "local"]),
    default="structured",
    show_default=True,
    help="Without a model, by an endpoint, or by this site's GPU workers.",
)
@click.option(
    "--reviewer",
    "names",
    multiple=True,
    metavar="NAME",
    help="Merged reviewer [default: merged-ENGINE-7 and, without a model, -4 too].",
)
@source_option
@click.option("--batch", "batch_name", metavar="NAME", help="Name of the jobs' batch.")
@click.option("--allow-external", is_flag=True, help="Reviews may leave this site.")
@click.option("--dry-run", is_flag=True, help="Say what it would cost; queue nothing.")
@click.option("--wait", is_flag=True, help="Return when every paper is done.")
@json_option
def merge(
    engine: str,
    names: tuple[str, ...],
    sources: tuple[str, ...],
    batch_name: str | None,
    allow_external: bool,
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Merge the human reviews of each paper into one, by aspect."""
    from trainer.data.merge_inputs import merge_inputs

    database = ready_database()
    inputs = merge_inputs(database, sources)
    if engine == "structured":
        _merge_structured(database, inputs, names, as_json=as_json)
        return
    if len(names) > 1:
        raise UserError("Jobs are one reviewer's: name a single --reviewer.")
    name = names[0] if names else f"merged-{engine}-7"
    found = _plan(database, inputs, name, batch_name, allow_external)
    click.echo(f"{name}: {len(found.todo)} papers to merge, {found.cached} merged before", err=True)
    click.echo(f"estimate, at most: {found.estimate}", err=True)
    if dry_run or not found.todo:
        echo_json(found.to_json()) if as_json else None
        return
    _queue_merges(database, found, name, allow_external, wait=wait, as_json=as_json)


def _plan(
    database: Any, inputs: Any, name: str, batch_name: str | None, allow_external: bool
) -> Any:
    from dispatch import roster
    from settings import get_settings
    from trainer.data.merge_jobs import plan

    version, config = roster.resolve(database, name)
    if config.kind != "merged" or not (config.base or config.endpoint):
        raise UserError(f"{name} is not a merged reviewer with a model.")
    roster.check_may_send(config, get_settings(), allow_external)
    return plan(database, inputs, version, config, batch_name)


def _queue_merges(
    database: Any, found: Any, name: str, allow_external: bool, *, wait: bool, as_json: bool
) -> None:
    from functools import partial

    from db import batch_progress
    from dispatch import roster
    from dispatch.submission import doorbell_for
    from dispatch.waiting import wait_for_batch
    from settings import get_settings
    from trainer.data.merge_jobs import cost, submit

    settings = get_settings()
    version, config = roster.resolve(database, name)
    ring = partial(doorbell_for, settings)
    notified = submit(database, found, version, allow_external=allow_external, doorbell_for=ring)
    if not notified:
        click.echo("referee: No broker was reached; a worker will find the jobs.", err=True)
    if wait:
        patience = settings.lease_seconds
        with progress("merging") as advance:
            wait_for_batch(
                database,
                found.batch,
                queue=version.queue,
                progress=advance,
                stall_seconds=patience,
            )
    status = batch_progress.status(database, found.batch)
    spent = cost(config, status.prompt_tokens, status.output_tokens)
    if as_json:
        echo_json(found.to_json() | {"counts": status.counts, "spent": vars(spent)})
    else:
        click.echo(f"Batch {found.batch}: {status.state}, {_in_words(status.counts)}.")
        click.echo(f"spent on accepted answers: {spent}")
    if status.counts["failed"]:
        hint = f"`referee retry {found.batch}` tries them again"
        click.echo(f"referee: {status.counts['failed']} merges failed: {hint}.", err=True)
        raise click.exceptions.Exit(1)


def _in_words(counts: dict[str, int]) -> str:
    shown = ("succeeded", "failed", "running", "queued")
    return ", ".join(f"{counts[state]} {state}" for state in shown if counts[state])


def _merge_structured(database: Any, inputs: Any, names: tuple[str, ...], *, as_json: bool) -> None:
    from dispatch import roster
    from trainer.data.merge_structured import merge_structured, tables
    from trainer.data.text_table import print_tables

    chosen = names or ("merged-structured-7", "merged-structured-4")
    mergers = [roster.resolve(database, name) for name in chosen]
    for version, config in mergers:
        if config.kind != "merged" or config.base or config.endpoint:
            raise UserError(f"{version.name} does not merge without a model.")
    with progress("merging") as advance:
        done = merge_structured(database, inputs, [version for version, _ in mergers], advance)
    if as_json:
        echo_json([vars(each) for each in done])
    else:
        print_tables(tables(done))
