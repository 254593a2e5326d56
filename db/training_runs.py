"""Training runs and their measured values."""

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
    """Enter a run that begins; return its id. UserError when there is one of that name."""
    values = {"config": config, "dataset_sha256": dataset_sha256, "versions": versions}
    try:
        with database.write() as on:
            statement = insert(TrainingRun).values(name=name, **values).returning(TrainingRun.id)
            return int(on.execute(statement).scalar_one())
    except IntegrityError as error:
        raise UserError(
            f"The database knows a training run {name} already: give this one another --name."
        ) from error


def resume_run(database: Database, name: str, step: int) -> int | None:
    """Note that a run goes on after `step`, whose later values are void; None: it is not known."""
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
    """Store a step's values."""
    rows = [{"run_id": run_id, "step": step, "name": n, "value": v} for n, v in values.items()]
    with database.write() as on:
        on.execute(insert(TrainingMetric), rows)


def end_run(
    database: Database, run_id: int, state: RunState, adapter_sha256: str | None = None
) -> bool:
    """Note how a running run ended and which adapter came of it; False when it did not run."""
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
