"""`referee reviewer`: list, show and add reviewers."""

from __future__ import annotations

from pathlib import Path

import click

from commands.database import ready_database
from commands.options import json_option
from commands.output import echo_json
from errors import UserError


@click.group(short_help="List, show and add reviewers.")
def reviewer() -> None:
    """List, show and add reviewers, which write reviews."""


@reviewer.command("list")
@json_option
def list_reviewers(as_json: bool) -> None:
    """List the reviewers that come with Referee and those that were added."""
    from dispatch import roster

    listed = roster.listing(ready_database())
    if as_json:
        echo_json(listed)
        return
    for line in listed:
        version = f"version {line['version']}" if line["version"] else "not used yet"
        click.echo(f"{line['name']:16} {line['kind']:9} {line['queue']:22} {version}")


@reviewer.command("show")
@click.argument("name")
def show_reviewer(name: str) -> None:
    """Print a reviewer's newest version as YAML."""
    import yaml

    from dispatch import roster

    version, config = roster.resolve(ready_database(), name)
    click.echo(f"# version {version.version}, sha256 {version.sha256}")
    click.echo(yaml.safe_dump(config.to_json(), sort_keys=False, allow_unicode=True), nl=False)


@reviewer.command("add")
@click.argument("file", type=click.Path(path_type=Path))
def add_reviewer(file: Path) -> None:
    """Add a reviewer from a YAML file; a changed file becomes a new version of its name."""
    from dispatch import roster
    from models.text.reviewer import builtin, load

    config = load(file)
    if config.name in builtin():
        raise UserError(f"{config.name} comes with Referee: choose another name.")
    version = roster.register_version(ready_database(), config)
    click.echo(f"{version.name} version {version.version} (sha256 {version.sha256[:12]})")
