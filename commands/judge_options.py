"""Options that `referee judge` and `referee eval` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from errors import UserError

F = TypeVar("F", bound=Callable[..., Any])

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def paper_options(command: F) -> F:
    """Add --papers, --dataset, --split."""
    for option in (
        click.option("--split", metavar="NAME", help="Split of the data set (default: test)."),
        click.option("--dataset", type=_FOLDER, help="Data set whose split is compared."),
        click.option("--papers", type=_FILE, help="File with SHA-256 hashes of papers."),
    ):
        command = option(command)
    return command


def matcher_options(command: F) -> F:
    """Add --matcher, --threshold, --points, --min-papers, --learnt-by."""
    for option in (
        click.option(
            "--learnt-by",
            multiple=True,
            metavar="SHA",
            help="Adapter that generated imported reviews: its training papers are left out.",
        ),
        click.option(
            "--min-papers",
            default=50,
            show_default=True,
            type=click.IntRange(min=1),
            help="Refuse a comparison on fewer papers.",
        ),
        click.option(
            "--points",
            "extractor",
            type=click.Choice(["parsed", "llm"]),
            default="parsed",
            show_default=True,
            help="How points are extracted: from items and sentences, or by a model.",
        ),
        click.option(
            "--threshold",
            type=click.FloatRange(-1, 1),
            help="Lowest cosine of matching points (default: the calibrated one).",
        ),
        click.option(
            "--matcher",
            type=click.Choice(["embedding", "liang", "marg"]),
            default="embedding",
            show_default=True,
            help="How points are matched: by MiniLM, offline, or by a model, as Liang or MARG do.",
        ),
    ):
        command = option(command)
    return command


def model_options(command: F) -> F:
    """Add --endpoint, --model and what belongs to them."""
    for option in (
        click.option("--allow-external", is_flag=True, help="Reviews may leave this site."),
        click.option(
            "--concurrency",
            default=4,
            show_default=True,
            type=click.IntRange(min=1),
            help="Questions in flight at the same time.",
        ),
        click.option("--model", metavar="NAME", help="The judging model's name at the endpoint."),
        click.option("--endpoint", metavar="URL", help="OpenAI-compatible server that judges."),
    ):
        command = option(command)
    return command


def judge_options(given: dict[str, Any], *, equal: bool = False) -> Any:
    """The judge that the options name, or None. UserError if only one of the two is given."""
    from judge.judging import JudgeOptions

    endpoint, model = given.pop("endpoint"), given.pop("model")
    concurrency, allow = given.pop("concurrency"), given.pop("allow_external")
    if endpoint is None and model is None:
        return None
    if endpoint is None or model is None:
        raise UserError("A judge is named by both --endpoint URL and --model NAME.")
    return JudgeOptions(endpoint, model, concurrency, equal=equal, allow_external=allow)
