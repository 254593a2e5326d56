"""The `train` command: parse, call, print."""

from __future__ import annotations

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
    from db.schema_training import RunState
    from db.session import Database
    from trainer.qlora.distributed import Processes
    from trainer.qlora.recipe import Recipe
    from trainer.qlora.training_loop import ProgressListener
    from trainer.qlora.training_run import RunOptions, TrainingResult, TrainingRun


@click.command(short_help="Train an adapter.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Go on with the run where it was left.")
@click.option("--name", metavar="NAME", help="Name of the run (default: the recipe's).")
@click.option(
    "--dataset", metavar="FOLDER", type=click.Path(path_type=Path), help="Instead of the recipe's."
)
@click.option(
    "--step",
    type=click.IntRange(min=1),
    help="Take the adapter of this step instead of the one with the least validation loss.",
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
    """Train an adapter by a recipe: a YAML file, or the name of one that comes with Referee.

    SIGTERM saves and ends; --resume goes on exactly there. With several GPUs start it by
    `torchrun --nproc-per-node N --no-python referee train CONFIG`.
    """
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
        trained, registered = _train(recipe, options, processes)
    finally:
        processes.close()
    if processes.first:
        _print(trained, options, registered, as_json)


def _train(
    recipe: Recipe, options: RunOptions, processes: Processes
) -> tuple[TrainingResult, bool]:
    """Carry the run out; also says whether the adapter is in the database."""
    from trainer.qlora.progress_reports import DatabaseListener, ListenerGroup, TensorBoardListener
    from trainer.qlora.training_run import TrainingRun

    if not processes.first:
        return TrainingRun(recipe, options, processes).train(ListenerGroup([])), False
    database = ready_database()
    run = TrainingRun(recipe, options, processes)
    with _on_stderr() as shown:
        shown.on_message(run.choices)
        run_id = _register_run(database, run)
        listeners = [shown, DatabaseListener(database, run_id)]
        if TensorBoardListener.available():
            listeners.append(TensorBoardListener(options.folder / "tensorboard"))
        return _run_and_record(database, run_id, run, ListenerGroup(listeners))


@contextmanager
def _on_stderr() -> Iterator[ProgressListener]:
    """A bar on a terminal, lines elsewhere."""
    from trainer.qlora.progress_reports import PlainTextListener, ProgressBarListener

    if sys.stderr.isatty():
        with ProgressBar("training", transient=False) as bar:
            yield ProgressBarListener(bar)
    else:
        yield PlainTextListener()


def _register_run(database: Database, run: TrainingRun) -> int:
    """The run's number in the database."""
    from db import training_runs

    name = run.options.name
    known = training_runs.resume_run(database, name, run.step) if run.options.resume else None
    return known or training_runs.start_run(
        database,
        name,
        config=run.recipe.to_json(),
        dataset_sha256=run.dataset.card.sha256,
        versions=run.versions,
    )


def _run_and_record(
    database: Database, run_id: int, run: TrainingRun, listener: ProgressListener
) -> tuple[TrainingResult, bool]:
    from db import training_runs

    try:
        trained = run.train(listener)
    except BaseException:
        training_runs.end_run(database, run_id, "failed")
        raise
    adapters = [trained.adapter, *trained.candidates] if trained.adapter else []
    registered = all(_register(database, folder) for folder in adapters) and bool(adapters)
    state: RunState = "succeeded" if trained.outcome.finished else "stopped"
    training_runs.end_run(database, run_id, state, trained.adapter_sha256)
    return trained, registered


def _register(database: Database, folder: Path) -> bool:
    """Put the adapter into the database, from where workers fetch it.

    The registry belongs to the workers; here alone, where commands are put together, the two meet.
    """
    import importlib

    try:
        registry = importlib.import_module("dispatch.adapter_registry")
    except ModuleNotFoundError:
        return False
    registry.register(database, folder)
    return True


def _print(trained: TrainingResult, options: RunOptions, registered: bool, as_json: bool) -> None:
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
                "registered": registered,
                "candidates": [str(folder) for folder in trained.candidates],
            }
        )
        return
    if trained.adapter is None:
        click.echo(f"Stopped and saved at step {position.step}; --resume goes on there.")
        return
    loss = "" if trained.validation_loss is None else f", loss {trained.validation_loss:.4f}"
    click.echo(f"Adapter {trained.adapter_sha256} of step {trained.step}{loss}: {trained.adapter}")
    if registered:
        click.echo(f"Use it: referee adapter promote {trained.adapter_sha256} --reviewer NAME")
    if trained.candidates:
        n = len(trained.candidates)
        click.echo(f"Choose among {n}: referee judge checkpoints {options.name} --reviewer NAME")
