"""`referee adapter`: register, verify, promote, retire and merge adapters."""

from __future__ import annotations

from pathlib import Path

import click

from commands.database import ready_database
from commands.options import json_option
from commands.output import echo_json
from errors import RefereeError, UserError


@click.group(short_help="Register, promote and merge adapters.")
def adapter() -> None:
    """Register, promote and merge adapters: what training adds to a base model."""


@adapter.command("list")
@json_option
def list_adapters(as_json: bool) -> None:
    """List the adapters in the database."""
    from dataclasses import asdict

    from db import adapters

    listed = adapters.listing(ready_database())
    if as_json:
        echo_json([asdict(each) for each in listed])
        return
    for each in listed:
        mib = sum(n_bytes for _, n_bytes in each.files) / 2**20
        aspects = each.config.get("aspects", "?")
        click.echo(
            f"{each.sha256[:12]}  {each.state:10} {each.base:14} {aspects} aspects  "
            f"{mib:6.1f} MiB  {each.name}"
        )
    if not listed:
        click.echo("No adapter is registered: see `referee adapter register`.")


@adapter.command("register")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def register_adapter(folder: Path) -> None:
    """Check the adapter in FOLDER and store it in the database, for the workers of all machines.

    FOLDER holds adapter_model.safetensors, adapter_config.json and provenance.json.
    """
    from dispatch import adapter_registry

    done = adapter_registry.register(ready_database(), folder)
    click.echo(f"{done.sha256}  {done.name}{'' if done.new else ' (already registered)'}")


@adapter.command("verify")
@click.argument("sha256", metavar="SHA")
def verify_adapter(sha256: str) -> None:
    """Fetch an adapter's bytes from the database and check them; SHA may be its beginning."""
    from db import adapters
    from dispatch import adapter_registry

    database = ready_database()
    found = adapters.named(database, sha256)
    try:
        adapter_registry.verify(database, found)
    except RefereeError as problem:
        raise UserError(str(problem)) from problem
    click.echo(f"{found.sha256}  complete, and made for the current prompt and template")


@adapter.command("promote")
@click.argument("sha256", metavar="[SHA]", required=False)
@click.option(
    "--reviewer", "name", required=True, metavar="NAME", help="Reviewer that will use it."
)
@click.option(
    "--require-eval",
    "evaluation",
    type=int,
    metavar="ID",
    help="Only if a reviewer with this adapter won more papers than it lost in that comparison.",
)
@click.option("--rollback", is_flag=True, help="Go back to the reviewer's previous version.")
def promote_adapter(sha256: str | None, name: str, evaluation: int | None, rollback: bool) -> None:
    """Make a new version of a reviewer that uses this adapter.

    Batches submitted from now on use it; running ones keep theirs. With --rollback, and without
    SHA, the previous version is in force again.
    """
    from db import adapters
    from dispatch import adapter_registry

    if rollback == (sha256 is not None):
        raise UserError("Give either an adapter's SHA or --rollback.")
    database = ready_database()
    if sha256 is None:
        withdrawn, version = adapter_registry.roll_back(database, name)
        click.echo(f"{name}: version {withdrawn.version} is withdrawn.")
    else:
        found = adapters.named(database, sha256)
        version = adapter_registry.promote(database, found, name, evaluation=evaluation)
    uses = version.config.get("adapter_sha256") or "no adapter"
    click.echo(f"{name}: version {version.version} is in force, with {uses[:12]}.")


@adapter.command("retire")
@click.argument("sha256", metavar="SHA")
def retire_adapter(sha256: str) -> None:
    """Keep an adapter from being promoted again; batches that use it go on."""
    from db import adapters
    from dispatch import adapter_registry

    database = ready_database()
    found = adapters.named(database, sha256)
    adapter_registry.retire(database, found)
    click.echo(f"{found.sha256[:12]} is retired.")


@adapter.command("merge")
@click.argument("sha256", metavar="SHA")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder that does not exist yet.",
)
def merge_adapter(sha256: str, output: Path) -> None:
    """Write the base model in bf16 with the adapter merged in, for other servers.

    It is merged into the weights that it was trained on: the base's NF4 weights, dequantised.
    """
    from db import adapters
    from dispatch import adapter_registry
    from settings import get_settings

    database = ready_database()
    found = adapters.named(database, sha256)
    adapter_registry.merge(database, found, output, get_settings().home)
    click.echo(str(output))
