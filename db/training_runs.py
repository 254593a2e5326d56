"""Training runs and their metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from db.column_types import now
from db.schema_training import AdapterRow, RunState, TrainingMetric, TrainingRun
from db.session import Database
from errors import UserError


def start_run(
    database: Database,
    name: str,
    *,
    config: Mapping[str, Any],
    dataset_sha256: str,
    versions: Mapping[str, str],
) -> int:
    """Record the start of a run; return its id. Raises UserError when the name is taken."""
    values = {"config": config, "dataset_sha256": dataset_sha256, "versions": versions}
    try:
        with database.write() as on:
            statement = insert(TrainingRun).values(name=name, **values).returning(TrainingRun.id)
            return int(on.execute(statement).scalar_one())
    except IntegrityError as error:
        raise UserError(
            f"There is a training run {name} already: choose another --name."
        ) from error


def resume_run(database: Database, name: str, step: int) -> int | None:
    """Mark a run as running again and delete its metrics after `step`; None when it is unknown."""
    with database.write() as on:
        run_id = on.execute(
            update(TrainingRun)
            .where(TrainingRun.name == name)
            .values(state="running", finished_at=None)
            .returning(TrainingRun.id)
        ).scalar()
        if run_id is not None:
            later = (TrainingMetric.run_id == run_id) & (TrainingMetric.step > step)
            on.execute(delete(TrainingMetric).where(later))
    return run_id


def record(database: Database, run_id: int, step: int, values: Mapping[str, float]) -> None:
    """Store the metrics of a step."""
    rows = [{"run_id": run_id, "step": step, "name": n, "value": v} for n, v in values.items()]
    with database.write() as on:
        on.execute(insert(TrainingMetric), rows)


def end_run(
    database: Database, run_id: int, state: RunState, adapter_sha256: str | None = None
) -> bool:
    """Record how a run ended, and its adapter; False when the run was not running."""
    adapter = select(AdapterRow.id).where(AdapterRow.sha256 == adapter_sha256).scalar_subquery()
    with database.write() as on:
        return (
            on.execute(
                update(TrainingRun)
                .where(TrainingRun.id == run_id, TrainingRun.state == "running")
                .values(state=state, finished_at=now(), adapter_id=adapter)
            ).rowcount
            == 1
        )
