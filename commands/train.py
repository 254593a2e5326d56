"""`referee train`: train an adapter by a recipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands.database import ready_database
from commands.options import json_option
from commands.output import ProgressBar, echo_json

if TYPE_CHECKING:
    from trainer.qlora.distributed import Processes
    from trainer.qlora.recipe import Recipe
    from trainer.qlora.training_loop import ProgressListener
    from trainer.qlora.training_run import RunOptions, TrainingResult


@click.command(short_help="Train an adapter.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Continue the run where it stopped.")
@click.option("--name", metavar="NAME", help="Name of the run (default: the recipe's).")
@click.option(
    "--dataset",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Data set to use instead of the recipe's.",
)
@click.option(
    "--step",
    type=click.IntRange(min=1),
    help="Take the adapter of this step instead of the one with the lowest validation loss.",
)
@click.option(
    "--every-checkpoint",
    is_flag=True,
    help="Register the adapter of each checkpoint that is kept, for `referee judge checkpoints`.",
)
@click.option(
    "--memory-gib",
    type=click.FloatRange(min=0),
    default=0.0,
    help="GPU memory that the run may take (default: all that is free).",
)
@json_option
def train(
    config: Path,
    resume: bool,
    name: str | None,
    dataset: Path | None,
    step: int | None,
    every_checkpoint: bool,
    memory_gib: float,
    as_json: bool,
) -> None:
    """Train an adapter from a recipe: a YAML file, or the name of a recipe that ships with Referee.

    SIGTERM saves a checkpoint and ends the run; --resume continues exactly there. On several GPUs
    use `torchrun --nproc-per-node N --no-python referee train CONFIG`.
    """
    # As in a worker: nothing is compiled, and importing torch's compiler takes 2 s.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    from settings import get_settings
    from trainer.qlora import recipe as recipes

    recipe = recipes.load(config)
    if dataset is not None:
        recipe = replace(recipe, dataset=str(dataset.absolute()))
    if step is not None:
        recipe = replace(recipe, keep_steps=(*recipe.keep_steps, step))
    from trainer.qlora.distributed import init_processes
    from trainer.qlora.training_run import RunOptions

    options = RunOptions(
        get_settings().home,
        name or recipe.name,
        resume=resume,
        step=step,
        every_checkpoint=every_checkpoint,
        memory_gib=memory_gib,
    )
    processes = init_processes()
    try:
        trained = _train(recipe, options, processes)
    finally:
        processes.close()
    if processes.first:
        _print(trained, options, as_json=as_json)


def _train(recipe: Recipe, options: RunOptions, processes: Processes) -> TrainingResult:
    from trainer.qlora.progress_reports import ListenerGroup
    from trainer.qlora.recorded_run import train_and_record
    from trainer.qlora.training_run import TrainingRun

    if not processes.first:
        return TrainingRun(recipe, options, processes).train(ListenerGroup([]))
    database = ready_database()
    run = TrainingRun(recipe, options, processes)
    with _progress() as listener:
        return train_and_record(database, run, listener)


@contextmanager
def _progress() -> Iterator[ProgressListener]:
    """Show progress on stderr: a bar on a terminal, lines elsewhere."""
    from trainer.qlora.progress_reports import PlainTextListener, ProgressBarListener

    if sys.stderr.isatty():
        with ProgressBar("training", transient=False) as bar:
            yield ProgressBarListener(bar)
    else:
        yield PlainTextListener()


def _print(trained: TrainingResult, options: RunOptions, *, as_json: bool) -> None:
    position = trained.outcome.position
    if as_json:
        echo_json(
            {
                "run": options.name,
                "finished": trained.outcome.finished,
                "steps": position.step,
                "step": trained.step,
                "validation_loss": trained.validation_loss,
                "adapter": trained.adapter and str(trained.adapter),
                "adapter_sha256": trained.adapter_sha256,
                "registered": bool(trained.adapters),
                "candidates": [str(folder) for folder in trained.candidates],
            }
        )
        return
    if trained.adapter is None:
        click.echo(f"Stopped and saved at step {position.step}; --resume continues there.")
        return
    loss = "" if trained.validation_loss is None else f", loss {trained.validation_loss:.4f}"
    click.echo(f"Adapter {trained.adapter_sha256} of step {trained.step}{loss}: {trained.adapter}")
    click.echo(f"Use it: referee adapter promote {trained.adapter_sha256} --reviewer NAME")
    if trained.candidates:
        n = len(trained.candidates)
        click.echo(f"Choose among {n}: referee judge checkpoints {options.name} --reviewer NAME")
