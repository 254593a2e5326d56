"""`referee requeue`: requeue the jobs of dead workers and notify idle ones."""

from __future__ import annotations

import click

from commands.database import ready_database


@click.command(short_help="Requeue the jobs of dead workers and notify idle ones.")
def requeue() -> None:
    """Expire the leases of dead workers and notify workers of every waiting job."""
    from db import reconcile
    from dispatch.app import make_app
    from dispatch.broker import require
    from dispatch.doorbell import announce
    from settings import get_settings

    settings = get_settings()
    app = make_app(require(settings).url, settings)
    due = reconcile.reconcile(ready_database(), max_attempts=settings.max_attempts)
    announce(app, due)
    for queue, n_due in sorted(due.items()):
        click.echo(f"{queue}: {n_due} papers waiting")
    if not due:
        click.echo("Nothing is waiting.")
