"""`referee judge`: compare reviewers by human reviews."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from commands.database import ready_database
from commands.judge_options import judge_options, matcher_options, model_options, paper_options
from commands.options import json_option
from commands.output import echo_json, progress


@click.group(short_help="Match and judge reviews against human ones.")
def judge() -> None:
    """Match and judge reviews against human ones."""


def _rivals(command: Any) -> Any:
    for option in (
        click.option("--b-batch", metavar="BATCH", help="Only the reviews of this batch of B."),
        click.option("--a-batch", metavar="BATCH", help="Only the reviews of this batch of A."),
        click.option(
            "--reference",
            required=True,
            metavar="R",
            help="Reviewer whose points are the ground truth.",
        ),
        click.argument("b"),
        click.argument("a"),
    ):
        command = option(command)
    return command


@judge.command("match")
@_rivals
@paper_options
@matcher_options
@model_options
@json_option
def match_command(as_json: bool, **options: Any) -> None:
    """Count how many of R's points A and B hit: win, tie, lose by paper and aspect.

    A, B and R are reviewers, or NAME@VERSION. Run again, the command continues where it stopped.
    """
    _compare(options, judge_options(options), judged=False, as_json=as_json)


@judge.command("pairwise")
@_rivals
@paper_options
@matcher_options
@model_options
@click.option(
    "--equal", is_flag=True, help="Show the same number of points of each, without headings."
)
@json_option
def pairwise_command(as_json: bool, equal: bool, **options: Any) -> None:
    """Let a model judge A against B given R's reviews, in both orders.

    Each question is a job for cpu workers; if none is alive, this process asks the questions.
    """
    _compare(options, judge_options(options, equal=equal), judged=True, as_json=as_json)


def _compare(options: dict[str, Any], model: Any, *, judged: bool, as_json: bool) -> None:
    from db.comparison_records import read_comparison
    from errors import UserError
    from judge.comparing import ComparisonPlan, prepare
    from judge.evaluation import run_comparison
    from judge.report.figures import figures
    from judge.selecting import (
        adapters_named,
        make_extractor,
        make_matcher,
        select_papers,
        side_named,
        version_named,
    )
    from settings import get_settings

    if judged and model is None:
        raise UserError("Name the judging model with --endpoint URL and --model NAME.")
    settings, database = get_settings(), ready_database()
    matcher = make_matcher(options["matcher"], options["threshold"], settings, model)
    plan = ComparisonPlan(
        a=side_named(database, options["a"], options["a_batch"]),
        b=side_named(database, options["b"], options["b_batch"]),
        reference=version_named(database, options["reference"]),
        matcher=matcher,
        extractor=make_extractor(options["extractor"], settings, model),
        selection=select_papers(options["papers"], options["dataset"], options["split"]),
        levels=matcher.assign is not None,
        min_papers=options["min_papers"],
        learnt_by=adapters_named(database, options["learnt_by"]),
    )
    ready = prepare(database, plan)
    problems = run_comparison(database, settings, plan, ready, model if judged else None, progress)
    found = figures(read_comparison(database, ready.comparison.id))
    _print(found, problems, as_json=as_json)


def _print(found: Any, problems: list[str], *, as_json: bool) -> None:
    from commands.judge_tables import comparison_rows, comparison_sentences

    if as_json:
        echo_json(comparison_rows(found))
    else:
        for line in comparison_sentences(found):
            click.echo(line)
    _report(problems)


def _report(problems: list[str]) -> None:
    for sentence in problems:
        click.echo(f"referee: {sentence}", err=True)
    if problems:
        sys.exit(1)


@judge.command("calibrate")
@click.option("--reviewer", "name", required=True, metavar="NAME", help="Reviewer to calibrate.")
@click.option("--reference", required=True, metavar="R", help="Human reviews, merged by aspect.")
@click.option(
    "--coefficients",
    default="1,0.95,0.8,0.5",
    show_default=True,
    help="Coefficients to try; 1 is off.",
)
@click.option(
    "--mode",
    "modes",
    multiple=True,
    type=click.Choice(["logit", "probability"]),
    help="Suppression mode (default: both).",
)
@paper_options
@click.option("--max-papers", type=click.IntRange(min=1), help="At most this many papers.")
@click.option("--imported", is_flag=True, help="Use stored reviews; generate none.")
@json_option
def calibrate_command(as_json: bool, **options: Any) -> None:
    """Find the suppression whose empty aspects are closest to the human reference's.

    Missing reviews are generated through the queue, by reviewers called NAME~MODE-C; they may also
    have been imported under these names.
    """
    from commands.judge_tables import calibration_plot, calibration_rows, calibration_table
    from judge.calibration import MODES, CalibrationRequest, calibrate, read_coefficients
    from judge.selecting import select_papers
    from settings import get_settings

    request = CalibrationRequest(
        reviewer=options["name"],
        reference=options["reference"],
        modes=options["modes"] or MODES,
        coefficients=read_coefficients(options["coefficients"]),
        selection=select_papers(options["papers"], options["dataset"], options["split"]),
        max_papers=options["max_papers"],
        imported=options["imported"],
    )
    found = calibrate(ready_database(), get_settings(), request, progress)
    if as_json:
        echo_json(calibration_rows(found))
        return
    click.echo(calibration_table(found))
    click.echo()
    click.echo(calibration_plot(found))
    click.echo(f"Closest to {found.reference.label}: {found.best.setting.label}.")


@judge.command("checkpoints")
@click.argument("run")
@click.option("--reviewer", required=True, metavar="NAME", help="Reviewer that uses the adapters.")
@click.option(
    "--dataset",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The run's data set; its validation papers are reviewed.",
)
@click.option(
    "--reference",
    default="human",
    show_default=True,
    metavar="R",
    help="Reviewer whose points are the ground truth.",
)
@click.option("--max-papers", type=click.IntRange(min=1), help="At most this many papers.")
@click.option(
    "--min-papers",
    default=50,
    show_default=True,
    type=click.IntRange(min=1),
    help="Refuse to choose by fewer papers.",
)
@json_option
def checkpoints_command(as_json: bool, **options: Any) -> None:
    """Find the checkpoint of a training RUN that hits the most points of human reviews.

    `referee train CONFIG --every-checkpoint` registers the adapters. Each reviews the validation
    papers through the queue, under the name NAME~RUN-STEP, and is compared with the one of the
    lowest validation loss at equal item counts. Run again, the command continues where it stopped.
    """
    from commands.judge_tables import checkpoint_rows, checkpoint_sentences
    from judge.checkpoint_choice import CheckpointRequest, choose
    from settings import get_settings

    found = choose(ready_database(), get_settings(), CheckpointRequest(**options), progress)
    if as_json:
        echo_json(checkpoint_rows(found))
    else:
        for sentence in checkpoint_sentences(found, options["reviewer"]):
            click.echo(sentence)
    _report(found.problems)
