"""`referee data merge`: merge the human reviews of each paper into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from commands.database import ready_database
from commands.options import json_option
from commands.output import echo_json, progress
from errors import UserError

if TYPE_CHECKING:
    from db.batch_progress import BatchStatus
    from db.session import Database
    from trainer.data.merge_inputs import MergeInput
    from trainer.data.merge_jobs import Cost, MergePlan

source_option = click.option(
    "--source", "sources", multiple=True, metavar="NAME", help="Only papers of this source."
)


@click.command(short_help="Merge the human reviews of each paper into one, by aspect.")
@click.option(
    "--engine",
    type=click.Choice(["structured", "api", "local"]),
    default="structured",
    show_default=True,
    help="Without a model, by an API endpoint, or by GPU workers.",
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
@click.option("--dry-run", is_flag=True, help="Estimate the cost; queue nothing.")
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
    from db import batch_progress
    from settings import get_settings
    from trainer.data import merge_jobs
    from trainer.data.merge_inputs import merge_inputs

    database, settings = ready_database(), get_settings()
    inputs = merge_inputs(database, sources)
    if engine == "structured":
        chosen = names or ("merged-structured-7", "merged-structured-4")
        _merge_structured(database, inputs, chosen, as_json=as_json)
        return
    if len(names) > 1:
        raise UserError("A batch has one reviewer: give a single --reviewer.")
    name = names[0] if names else f"merged-{engine}-7"
    version, config = merge_jobs.model_merger(
        database, name, settings, allow_external=allow_external
    )
    plan = merge_jobs.plan(database, inputs, version, config, batch_name)
    click.echo(f"{name}: {len(plan.todo)} papers to merge, {plan.cached} merged before", err=True)
    click.echo(f"estimate, at most: {plan.estimate}", err=True)
    if dry_run or not plan.todo:
        echo_json(plan.to_json()) if as_json else None
        return
    if not merge_jobs.submit(database, plan, version, settings, allow_external=allow_external):
        click.echo("referee: No broker was reached; a worker will find the jobs.", err=True)
    if wait:
        _wait(database, plan.batch, version.queue, settings.lease_seconds)
    status = batch_progress.status(database, plan.batch)
    spent = merge_jobs.cost(config, status.prompt_tokens, status.output_tokens)
    _print(plan, status, spent, as_json=as_json)


def _wait(database: Database, batch: str, queue: str, stall_seconds: float) -> None:
    from dispatch.waiting import wait_for_batch

    with progress("merging") as advance:
        wait_for_batch(database, batch, queue=queue, progress=advance, stall_seconds=stall_seconds)


def _print(plan: MergePlan, status: BatchStatus, spent: Cost, *, as_json: bool) -> None:
    if as_json:
        echo_json(plan.to_json() | {"counts": status.counts, "spent": vars(spent)})
    else:
        shown = ("succeeded", "failed", "running", "queued")
        counts = ", ".join(f"{status.counts[s]} {s}" for s in shown if status.counts[s])
        click.echo(f"Batch {plan.batch}: {status.state}, {counts}.")
        click.echo(f"spent on accepted answers: {spent}")
    if status.counts["failed"]:
        hint = f"`referee retry {plan.batch}` tries them again"
        click.echo(f"referee: {status.counts['failed']} merges failed: {hint}.", err=True)
        raise click.exceptions.Exit(1)


def _merge_structured(
    database: Database, inputs: Sequence[MergeInput], names: Sequence[str], *, as_json: bool
) -> None:
    from commands.output import print_tables
    from trainer.data.merge_structured import merge_structured, structured_mergers, tables

    mergers = structured_mergers(database, names)
    with progress("merging") as advance:
        done = merge_structured(database, inputs, mergers, advance)
    if as_json:
        echo_json([vars(each) for each in done])
    else:
        print_tables(tables(done))
