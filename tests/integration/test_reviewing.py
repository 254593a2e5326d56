"""What a worker's slot does when a doorbell rings, with the real database and a scripted engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from db import batches
from db.batches import BatchOptions
from db.columns import now
from db.schema import Job
from db.session import Database, DatabaseUnavailable
from errors import RetryLater
from settings import Settings
from tests.integration.db.content import paper
from tests.scripted_engine import ScriptedEngine
from worker import roster
from worker.engines import LocalEngines
from worker.gate_record import GateRecord
from worker.in_flight import InFlight
from worker.metrics import Metrics
from worker.reviewing import JOBS_A_DOORBELL, Reviewer

MORE = 5


class Bell:
    """Counts how often it was rung; a broken one says so."""

    def __init__(self, works: bool) -> None:
        self.works, self.rung = works, 0

    def ring(self) -> bool:
        self.rung += 1
        return self.works


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight()


@pytest.fixture(params=[True, False], ids=["broker", "no broker"])
def bell(request: pytest.FixtureRequest) -> Bell:
    return Bell(request.param)


@pytest.fixture
def reviewer(
    database: Database, bell: Bell, in_flight: InFlight, tmp_path: Path
) -> Iterator[Reviewer]:
    """One that has a few jobs more before it than a doorbell is good for."""
    version, config = roster.resolve(database, "demo-7")
    assert config.base is not None
    batch = batches.open_batch(database, "b", version, BatchOptions())
    papers = [paper(str(n), f"text {n}") for n in range(JOBS_A_DOORBELL + MORE)]
    batches.add_papers(database, batch, papers)
    batches.finish_submit(database, batch)
    settings = Settings(home=tmp_path)
    engines = LocalEngines(config.base.name, ScriptedEngine(1), lambda _: tmp_path)
    yield Reviewer(
        database=database,
        engines=engines,
        in_flight=in_flight,
        worker="w1",
        queue=version.queue,
        settings=settings,
        metrics=Metrics(settings, "cpu"),
        gate_record=GateRecord(),
        ring=bell.ring,
    )
    engines.close()


def n_succeeded(database: Database) -> int:
    return batches.status(database, "b").counts["succeeded"]


def test_a_doorbell_is_good_for_some_jobs_and_rings_again_for_the_rest(
    database: Database, reviewer: Reviewer, bell: Bell
) -> None:
    assert reviewer.answer_doorbell()
    if bell.works:
        assert (n_succeeded(database), bell.rung) == (JOBS_A_DOORBELL, 1)
        assert reviewer.answer_doorbell()
    # Without a broker nobody else waits, and the work goes on
    assert (n_succeeded(database), bell.rung) == (JOBS_A_DOORBELL + MORE, 1)


def test_a_worker_that_takes_nothing_more_leaves_the_doorbell_to_others(
    database: Database, reviewer: Reviewer, in_flight: InFlight
) -> None:
    in_flight.drain(0.0)
    assert not reviewer.answer_doorbell()
    assert n_succeeded(database) == 0


@pytest.mark.parametrize(
    ("error", "attempts_used", "delay_s"),
    [
        (DatabaseUnavailable("The database does not answer."), 0, 0.0),
        (RetryLater("quota used up", wait_s=3600.0), 0, 3600.0),
        (RetryLater("the server is busy"), 1, 10.0),
    ],
    ids=["outage", "asked to wait", "failure"],
)
def test_only_a_failure_uses_up_an_attempt(
    error: RetryLater | DatabaseUnavailable,
    attempts_used: int,
    delay_s: float,
    database: Database,
    reviewer: Reviewer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(reviewer, "_write_review", fail)
    assert reviewer._review_next()
    first = select(Job.attempt - Job.given_back, Job.not_before - now(), Job.state)
    with database.read() as on:
        used, wait, state = on.execute(first.where(Job.attempt > 0)).one()
    assert (used, state) == (attempts_used, "queued")
    assert wait == pytest.approx(delay_s, abs=5)
