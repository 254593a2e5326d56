"""`referee up`: run the database, the broker and the workers of this machine."""

from __future__ import annotations

import time

import click

from commands.options import reviewer_option
from commands.signals import interrupt_on_sigterm


@click.command(short_help="Run everything on this machine: database, broker, workers.")
@reviewer_option
@click.option(
    "--slots",
    type=click.IntRange(1),
    help="Papers in flight in each worker (default: as many as fit).",
)
def up(reviewer_name: str | None, slots: int | None) -> None:
    """Run everything on this machine until Ctrl-C.

    The database is upgraded, a broker is started unless REFEREE_BROKER_URL names one, and there is
    a worker for each GPU (or one on the CPU) and one for API reviewers.
    """
    from dispatch import roster
    from settings import get_settings
    from worker.up import stack

    settings = get_settings()
    config = roster.find_config(reviewer_name or settings.reviewer, settings)
    interrupt_on_sigterm()
    with stack(settings, config, slots=slots) as running:
        click.echo(f"Database {running.database.address}")
        click.echo(f"Logs     {settings.home / 'logs'}")
        for name, pid in running.supervisor.pids().items():
            click.echo(f"Worker   {name} (process {pid})")
        click.echo("Running. Submit papers from another terminal; Ctrl-C stops everything.")
        try:
            while True:
                running.check()
                time.sleep(1.0)
        except KeyboardInterrupt:
            click.echo("Stopping: running papers finish or go back to the queue ...")
