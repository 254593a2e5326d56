"""`referee submit`: submit papers to be reviewed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.database import ready_database
from commands.options import Duration, json_option, reviewer_option
from commands.output import echo_json, progress
from errors import UserError

if TYPE_CHECKING:
    from db.batch_records import OnHiddenText


@click.command(short_help="Submit papers to be reviewed.")
@click.argument("paths", nargs=-1, metavar="PATH...")
@click.option(
    "--batch", "batch_name", metavar="NAME", help="Name of the batch; required unless --dry-run."
)
@reviewer_option
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with columns custom_id and path; paths are relative to it.",
)
@click.option(
    "--priority",
    type=click.Choice(["high", "normal", "low"]),
    default="normal",
    show_default=True,
    help="Higher priorities are reviewed first.",
)
@click.option(
    "--deadline", type=Duration(), help="Expire papers that are not done by then, e.g. 24h."
)
@click.option(
    "--samples",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Reviews for each paper, each with its own seed.",
)
@click.option(
    "--max-usd", type=click.FloatRange(min=0), help="Refuse API reviews that may cost more."
)
@click.option("--replace", is_flag=True, help="A custom_id with new content supersedes the old.")
@click.option("--allow-external", is_flag=True, help="Papers may leave this site (API reviewers).")
@click.option(
    "--on-hidden-text",
    type=click.Choice(["strip", "reject", "keep"]),
    default="strip",
    show_default=True,
    help="Read files without the text that they hide, fail them, or show the model all of it.",
)
@click.option("--wait", is_flag=True, help="Return when every paper is done.")
@click.option(
    "--dry-run", is_flag=True, help="Read the papers and show what was found; store nothing."
)
@json_option
def submit(
    paths: tuple[str, ...],
    manifest: Path | None,
    batch_name: str | None,
    dry_run: bool,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Submit papers to be reviewed.

    PATH is a PDF, TeX, Markdown, text or JSONL file, a folder, a glob, or - for standard input.
    Running the same submit again resumes it; nothing is reviewed twice.
    """
    from dispatch.submission import SubmitInput

    if not paths and manifest is None:
        raise UserError("Name at least one paper, folder or glob, or a --manifest.")
    source = SubmitInput(paths, manifest, sys.stdin if "-" in paths else None)
    if dry_run:
        sys.exit(
            _dry_run(source, options["reviewer_name"], options["on_hidden_text"], as_json=as_json)
        )
    if not batch_name:
        raise UserError("Give the batch a name with --batch NAME.")
    sys.exit(_submit(source, batch_name, options, wait=wait, as_json=as_json))


def _dry_run(
    source: Any, reviewer_name: str | None, on_hidden_text: OnHiddenText, *, as_json: bool
) -> int:
    from dispatch import hidden_text
    from dispatch.dry_run import document
    from dispatch.submission import limits, read
    from papers.reading import discover
    from settings import get_settings

    settings = get_settings()
    entries = discover(source.paths, source.manifest, source.stdin, limits(settings))
    with progress("reading") as advance:
        papers = hidden_text.apply(on_hidden_text, lambda: read(entries, settings, advance))
        found = document(papers, reviewer_name or settings.reviewer, settings)
    if as_json:
        echo_json(found)
    else:
        _print_papers(found)
    return 1 if found["counts"]["failed"] else 0


def _submit(
    source: Any, batch_name: str, options: dict[str, Any], *, wait: bool, as_json: bool
) -> int:
    from db.batch_records import BatchOptions
    from dispatch.submission import PRIORITIES, submit_papers
    from settings import get_settings

    settings = get_settings()
    with progress("submitting") as advance:
        outcome = submit_papers(
            source,
            ready_database(),
            settings,
            batch_name=batch_name,
            reviewer_name=options["reviewer_name"] or settings.reviewer,
            options=BatchOptions(
                priority=PRIORITIES[options["priority"]],
                deadline_seconds=options["deadline"],
                samples=options["samples"],
                allow_external=options["allow_external"],
                on_hidden_text=options["on_hidden_text"],
            ),
            progress=advance,
            replace=options["replace"],
            max_usd=options["max_usd"],
        )
    _report(outcome, as_json=as_json)
    if wait:
        return max(outcome.exit_code, _wait(outcome.batch, outcome.queue, quiet=as_json))
    return outcome.exit_code


def _report(outcome: Any, *, as_json: bool) -> None:
    if as_json:
        echo_json(outcome.document)
    else:
        _print_outcome(outcome.document)
    for sentence in outcome.warnings:
        click.echo(f"referee: {sentence}", err=True)


def _wait(batch: str, queue: str, *, quiet: bool) -> int:
    from dispatch.waiting import wait_for_batch
    from settings import get_settings

    settings = get_settings()
    with progress(f"reviewing {batch}") as advance:
        status = wait_for_batch(
            ready_database(),
            batch,
            queue=queue,
            progress=advance,
            stall_seconds=settings.lease_seconds,
        )
    done, failed = status.counts["succeeded"], status.counts["failed"]
    if not quiet:
        click.echo(f"Batch {batch}: {status.state}, {done} reviewed, {failed} failed.")
    return 0 if done == status.counts["total"] else 1


def _print_papers(found: dict[str, Any]) -> None:
    for paper in found["papers"]:
        click.echo(f"{paper['custom_id']}: {paper['error'] or _summary(paper)}")
        for flag in paper["flags"]:
            click.echo(f"    {flag}")
    counts = found["counts"]
    click.echo(
        f"{counts['read']} read, {counts['duplicate']} duplicate, {counts['failed']} failed."
    )
    if found["usd_at_most"] is not None:
        click.echo(f"One review of each costs at most ${found['usd_at_most']:.2f}.")


def _summary(paper: dict[str, Any]) -> str:
    size = f"{paper['n_chars']:,} characters"
    if paper["n_tokens"] is not None:
        size += f", {paper['n_tokens']:,} tokens, {paper['truncated_tokens']:,} of them cut"
    return f"{paper['title']} ({size})"


def _print_outcome(document: dict[str, Any]) -> None:
    for paper in document["papers"]:
        if paper["error"]:
            click.echo(f"{paper['custom_id']}: {paper['error']}", err=True)
    counts = document["counts"]
    click.echo(
        f"Batch {document['batch']}: {document['jobs']} jobs queued; {counts['read']} papers read, "
        f"{counts['duplicate']} duplicate, {counts['failed']} failed."
    )
    flagged = sum(bool(paper["flags"]) for paper in document["papers"])
    if flagged:
        click.echo(f"{flagged} papers have flags; `referee show ID` says which.")
