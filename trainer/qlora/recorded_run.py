"""Run a training with its progress, its outcome and its adapters recorded in the database."""

from __future__ import annotations

from db import training_runs
from db.schema_training import RunState
from db.session import Database
from dispatch import adapter_registry
from trainer.qlora.progress_reports import DatabaseListener, ListenerGroup, TensorBoardListener
from trainer.qlora.training_loop import ProgressListener
from trainer.qlora.training_run import TrainingResult, TrainingRun


def train_and_record(
    database: Database, run: TrainingRun, listener: ProgressListener
) -> TrainingResult:
    """Train, and register the adapters that the run wrote, for the workers of all machines.

    `listener` hears of the run's progress, as the database and TensorBoard do.
    """
    listener.on_message(run.choices)
    run_id = _start(database, run)
    listeners = [listener, DatabaseListener(database, run_id)]
    if TensorBoardListener.available():
        listeners.append(TensorBoardListener(run.options.folder / "tensorboard"))
    try:
        trained = run.train(ListenerGroup(listeners))
    except BaseException:
        training_runs.end_run(database, run_id, "failed")
        raise
    for folder in trained.adapters:
        adapter_registry.register(database, folder)
    state: RunState = "succeeded" if trained.outcome.finished else "stopped"
    training_runs.end_run(database, run_id, state, trained.adapter_sha256)
    return trained


def _start(database: Database, run: TrainingRun) -> int:
    name = run.options.name
    known = training_runs.resume_run(database, name, run.step) if run.options.resume else None
    return known or training_runs.start_run(
        database,
        name,
        config=run.recipe.to_json(),
        dataset_sha256=run.dataset.card.sha256,
        versions=run.versions,
    )
