"""`referee workers`: list, drain and resume workers."""

from __future__ import annotations

from typing import Any

import click

from commands.database import ready_database
from commands.options import Duration, json_option
from commands.output import echo_json
from errors import UserError


@click.group(invoke_without_command=True, short_help="List, drain and resume the workers.")
@json_option
@click.pass_context
def workers(ctx: click.Context, as_json: bool) -> None:
    """List the workers with their attention and when they were last seen, drain or resume them."""
    from dataclasses import asdict

    from db import worker_nodes

    if ctx.invoked_subcommand is not None:
        return
    listed = worker_nodes.listing(ready_database())
    if as_json:
        echo_json([asdict(node) for node in listed])
        return
    for node in listed:
        click.echo(_line(node))
    if not listed:
        click.echo("No worker has registered.")


def _line(node: Any) -> str:
    from settings import get_settings

    seen = f"last seen {_ago(node.age_s)}"
    if node.age_s > get_settings().lease_seconds:
        seen += ": dead or disconnected"
    papers = f"{node.running} of {node.slots} slots busy"
    attention = f"attention {node.attention}, " if node.attention else ""
    line = f"{node.name}: {node.queue}, {papers}, {attention}{node.state}, {seen}"
    return line if node.complaint is None else f"{line}\n    {node.complaint}"


def _ago(seconds: float) -> str:
    """How long ago something was, in words."""
    if seconds < 2:
        return "just now"
    units = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
    # From two on in each unit, so that there is no plural to get wrong.
    size, unit = next((size, unit) for size, unit in units if seconds >= 2 * size)
    return f"{seconds // size:.0f} {unit} ago"


@workers.command()
@click.argument("name", metavar="NAME|HOST")
@click.option(
    "--within",
    type=Duration(),
    help="Release jobs still running after this time, e.g. 120s; their attempt is not counted.",
)
def drain(name: str, within: float | None) -> None:
    """Stop a worker, or all workers of a host, from taking new papers; running ones finish.

    The worker stays registered as draining until `referee workers resume`, even if its process
    crashes and is restarted. A worker that was stopped starts as active.
    """
    for node in _set_state(name, "draining", within):
        click.echo(f"{node.name} is draining; {node.running} papers still running.")


@workers.command()
@click.argument("name", metavar="NAME|HOST")
def resume(name: str) -> None:
    """Let a drained worker, or all workers of a host, take papers again."""
    for node in _set_state(name, "active", None):
        click.echo(f"{node.name} takes papers again.")


def _set_state(name: str, state: Any, give_back_after: float | None) -> list[Any]:
    from db import worker_nodes

    database = ready_database()
    if not worker_nodes.set_state(database, name, state, give_back_after=give_back_after):
        raise UserError(f"There is no worker or host {name!r}; `referee workers` lists them.")
    return [node for node in worker_nodes.listing(database) if name in (node.name, node.host)]
