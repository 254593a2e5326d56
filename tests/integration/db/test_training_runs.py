"""Training runs in both databases: one a name, and a resumed run forgets what it will repeat."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from db import training_runs
from db.schema_training import TrainingMetric, TrainingRun
from db.session import Database
from errors import UserError


def start(database: Database) -> int:
    return training_runs.start_run(
        database, "spring", config={"batch": 16}, dataset_sha256="d" * 64, versions={"torch": "2"}
    )


def test_a_name_is_given_to_one_run(database: Database) -> None:
    start(database)
    with pytest.raises(UserError, match="There is a training run spring already"):
        start(database)


def test_a_resumed_run_drops_the_values_that_it_will_measure_again(database: Database) -> None:
    # Given a run that was killed after step 5 and saved at step 3
    run_id = start(database)
    for step in range(1, 6):
        training_runs.record(database, run_id, step, {"loss": 1 / step, "tokens_per_second": 9.0})
    # When it is resumed
    assert training_runs.resume_run(database, "spring", 3) == run_id
    # Then steps 4 and 5 can be stored anew, and nothing before is lost
    training_runs.record(database, run_id, 4, {"loss": 0.2})
    with database.read() as on:
        losses = on.execute(
            select(TrainingMetric.step, TrainingMetric.value)
            .where(TrainingMetric.name == "loss")
            .order_by(TrainingMetric.step)
        ).all()
    assert [tuple(row) for row in losses] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.2)]
    assert training_runs.resume_run(database, "autumn", 0) is None


def test_a_run_ends_once(database: Database) -> None:
    run_id = start(database)
    assert training_runs.end_run(database, run_id, "stopped")
    assert not training_runs.end_run(database, run_id, "failed")
    with database.read() as on:
        state = on.execute(select(TrainingRun.state, TrainingRun.finished_at)).one()
    assert (state[0], state[1] is not None) == ("stopped", True)
