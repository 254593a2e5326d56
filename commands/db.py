"""`referee db`: create, upgrade and check the database."""

from __future__ import annotations

import click

from commands.output import progress
from errors import UserError


@click.group(short_help="Create, upgrade and check the database.")
def db() -> None:
    """Create, upgrade and check the database."""


@db.command()
@click.argument("revision", default="head")
def upgrade(revision: str) -> None:
    """Bring the schema to the newest revision, or to REVISION."""
    from db import migrate

    with progress("upgrading"):
        migrate.upgrade(_url(), revision)
    click.echo(f"The database is at revision {migrate.current(_url())}.")


@db.command()
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask; data in newer columns and tables is lost.")
def downgrade(revision: str, yes: bool) -> None:
    """Take the schema back to REVISION ("base" empties the database)."""
    from db import migrate

    if not yes and not click.confirm("Data in newer columns and tables will be lost. Go on?"):
        raise UserError("Nothing was changed.")
    migrate.downgrade(_url(), revision)
    click.echo(f"The database is at revision {migrate.current(_url())}.")


@db.command()
def current() -> None:
    """Print the schema's revision and the one this version needs."""
    from db import migrate

    click.echo(f"{migrate.current(_url())} (this version needs {migrate.head()})")


@db.command()
def check() -> None:
    """Compare the database's schema with the models; exit 3 when they differ."""
    from db import migrate

    differences = migrate.check(_url())
    for difference in differences:
        click.echo(difference)
    if differences:
        raise click.exceptions.Exit(3)
    click.echo("The schema is as it should be.")


def _url() -> str:
    from settings import get_settings

    return get_settings().database
