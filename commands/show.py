"""`referee show`: print the reviews of a paper."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from commands.database import ready_database
from commands.options import json_option
from commands.output import echo_json
from errors import UserError

if TYPE_CHECKING:
    from db.flags import FlagView
    from db.reviews import UnreadView


@click.command(short_help="Show the reviews of a paper.")
@click.argument("id", metavar="ID")
@click.option("--raw", is_flag=True, help="The model's answer, unparsed.")
@json_option
def show(id: str, raw: bool, as_json: bool) -> None:
    """Show the reviews of a paper by aspect.

    ID is a custom_id, the beginning of a paper's sha256, a paper's id or a review's id.
    """
    from commands.review_text import stored_review_text
    from db.documents import paper_document, review_document
    from db.reviews import find, find_unread

    database = ready_database()
    papers = find(database, id)
    if not papers:
        _show_unread(find_unread(database, id), id, as_json=as_json)
        return
    if as_json:
        documents = [
            {"paper": paper_document(p), "reviews": [review_document(r) for r in p.reviews]}
            for p in papers
        ]
        echo_json(documents[0] if len(documents) == 1 else {"papers": documents})
        return
    for paper in papers:
        click.echo(f"{paper.title}\n{paper.sha256[:12]}\n")
        _show_flags(paper.flags)
        for review in paper.reviews:
            click.echo(review.raw if raw else stored_review_text(review))
        if not paper.reviews:
            click.echo("No review yet.")


def _show_unread(unread: UnreadView, id: str, *, as_json: bool) -> None:
    from db.documents import unread_document

    if not unread.jobs:
        raise UserError(f"There is no paper or review {id!r}.")
    if as_json:
        echo_json(unread_document(unread))
        return
    for job in unread.jobs:
        click.echo(f"{job.custom_id} in batch {job.batch}: {job.error}")
    _show_flags(unread.flags)


def _show_flags(flags: Sequence[FlagView]) -> None:
    for flag in flags:
        click.echo(f"{flag.custom_id}: {flag}")
        if flag.text:
            click.echo(textwrap.indent(flag.text, "    "))
    click.echo("\n" if flags else "", nl=False)
