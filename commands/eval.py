"""`referee eval`: compare a new reviewer with others."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from commands.database import ready_database
from commands.judge_options import judge_options, matcher_options, model_options, paper_options
from commands.options import json_option
from commands.output import echo_json, progress

if TYPE_CHECKING:
    from db.session import Database
    from judge.evaluation import EvaluationRequest
    from judge.judging import JudgeOptions
    from settings import Settings


@click.command(
    "eval", short_help="Test whether a new reviewer is better than others, by human reviews."
)
@click.argument("new")
@click.option(
    "--against",
    "rivals",
    multiple=True,
    required=True,
    metavar="OLD",
    help="Reviewer to compare with.",
)
@click.option(
    "--reference",
    default="human",
    show_default=True,
    metavar="R",
    help="Reviewer whose points are the ground truth.",
)
@click.option(
    "--gate",
    default=50.0,
    show_default=True,
    type=click.FloatRange(0, 100),
    help="Score in percent that every lower bound must exceed; from 50 on NEW must be better.",
)
@click.option(
    "--max-usd", type=click.FloatRange(min=0), help="Refuse API reviews that may cost more."
)
@click.option("--equal", is_flag=True, help="Show the judge the same number of points of each.")
@paper_options
@matcher_options
@model_options
@json_option
def eval_(new: str, as_json: bool, **options: Any) -> None:
    """Test whether a new reviewer is better than others, by human reviews.

    Missing reviews are generated through the queue, then everything is matched, and judged if a
    model is named. NEW is called better or worse where p is at most 0.05, adjusted by Holm's
    method over the comparisons. Exit 0 if the gate is passed in every comparison, else 4.
    """
    from commands.judge_tables import evaluation_line, evaluation_rows
    from judge.evaluation import evaluate
    from settings import get_settings

    allow = options["allow_external"]
    model = judge_options(options, equal=options.pop("equal"))
    settings, database = get_settings(), ready_database()
    request = _request(database, settings, new, model, options, allow_external=allow)
    found, problems = evaluate(database, settings, request, progress)
    if as_json:
        echo_json(evaluation_rows(found, request.gate))
    else:
        for finding in found:
            click.echo(evaluation_line(finding, request.gate))
    for sentence in problems:
        click.echo(f"referee: {sentence}", err=True)
    sys.exit(0 if all(finding.passed for finding in found) else 4)


def _request(
    database: Database,
    settings: Settings,
    new: str,
    model: JudgeOptions | None,
    options: Mapping[str, Any],
    *,
    allow_external: bool,
) -> EvaluationRequest:
    from judge.evaluation import EvaluationRequest
    from judge.selecting import (
        adapters_named,
        make_extractor,
        make_matcher,
        select_papers,
        side_named,
        version_named,
    )

    return EvaluationRequest(
        new=side_named(database, new),
        rivals=[side_named(database, rival) for rival in options["rivals"]],
        reference=version_named(database, options["reference"]),
        selection=select_papers(options["papers"], options["dataset"], options["split"]),
        matcher=make_matcher(options["matcher"], options["threshold"], settings, model),
        extractor=make_extractor(options["extractor"], settings, model),
        min_papers=options["min_papers"],
        learnt_by=adapters_named(database, options["learnt_by"]),
        gate=options["gate"],
        judge=model,
        allow_external=allow_external,
        max_usd=options["max_usd"],
    )
