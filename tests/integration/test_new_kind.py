"""A new kind of job needs only a module with a handler and a line in the table."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import func, select

from db import batch_control, batch_papers, batch_records, claims, job_events
from db.enqueue import NewJob
from db.schema import Job, JobEvent, PaperRow, ReviewRow
from db.session import Database
from dispatch.kinds import KINDS, Accepted, Kind
from models.text.generation import Generation
from tests.echo_handler import EchoHandler
from tests.integration.db.content import claim_one, paper, submit
from tests.integration.test_job_runner import reviewing
from tests.integration.test_keeper import keeper_of
from tests.site import wait_until
from worker.in_flight import InFlight


@pytest.fixture(autouse=True)
def _echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "echo", Kind("tests.echo_handler:EchoHandler"))


def n_events(database: Database, kind: str) -> int:
    with database.read() as on:
        return on.scalar(select(func.count()).where(JobEvent.kind == kind)) or 0


def states(database: Database) -> list[tuple[str, int]]:
    """State and attempts of each job."""
    with database.read() as on:
        rows = on.execute(select(Job.state, Job.attempt - Job.given_back).order_by(Job.id))
        return [(state, attempts) for state, attempts in rows]


def test_jobs_run_once_and_store_the_handlers_result(database: Database, tmp_path: Path) -> None:
    with reviewing(database, tmp_path, ["one", "two"], in_flight=InFlight(), kind="echo") as runner:
        assert runner.run_waiting_jobs()
    assert states(database) == [("succeeded", 1)] * 2
    assert (n_events(database, "claimed"), n_events(database, "echoed")) == (2, 2)
    with database.read() as on:
        assert on.scalar(select(func.count(ReviewRow.id))) == 0
        assert on.scalar(select(func.sum(Job.n_output_tokens))) == 100


def test_a_worker_that_lost_the_job_stores_nothing(database: Database, tmp_path: Path) -> None:
    with reviewing(database, tmp_path, ["one"], in_flight=InFlight(), kind="echo") as runner:
        queues = runner._queues
        handler = EchoHandler(database)
        slow = claim_one(database, queues=queues, lease_seconds=-1.0)
        fresh = claim_one(database, queues=queues)
        answer = Generation("A line", (), "stop", 1, 2, 0, 0.0, 0.1)
        stored = []
        for claim in (slow, fresh, slow):
            task = handler.open(claim)
            outcome = task.read(task.request(0), answer, {})
            assert isinstance(outcome, Accepted)
            stored.append(outcome.commit())
    assert stored == [False, True, False]
    assert n_events(database, "echoed") == 1


def test_running_job_is_cancelled(database: Database, tmp_path: Path) -> None:
    in_flight = InFlight()
    texts = ["SCRIPT: hang"]
    with reviewing(database, tmp_path, texts, in_flight=in_flight, kind="echo") as runner:
        keeper = keeper_of(database, tmp_path, in_flight=in_flight)
        slot = threading.Thread(target=runner.run_waiting_jobs)
        slot.start()
        wait_until(in_flight.attempts)
        batch_control.cancel(database, "b")
        keeper.beat()
        slot.join(60)
    assert states(database) == [("cancelled", 1)]


def test_job_returns_to_the_queue_when_the_engine_is_lost(
    database: Database, tmp_path: Path
) -> None:
    texts = ["SCRIPT: poison"]
    with reviewing(database, tmp_path, texts, in_flight=InFlight(), kind="echo") as runner:
        assert runner._run_next_job()
    assert states(database) == [("queued", 1)]


def test_job_of_an_unregistered_kind_is_not_claimed(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(KINDS, "echo")
    with reviewing(database, tmp_path, ["one"], in_flight=InFlight(), kind="echo") as runner:
        assert not runner._run_next_job()
        # And it does not prevent the idle exit of a worker that cannot run it
        assert not claims.has_live_jobs(database, runner._queues, KINDS)
    assert states(database) == [("queued", 0)]


def test_a_job_may_be_about_something_else_than_its_papers_text(database: Database) -> None:
    # Given jobs about a stored paper, added twice
    batch = submit(database, "b")
    other = submit(database, "other", paper("a"))
    with database.read() as on:
        paper_id = on.scalars(select(PaperRow.id)).one()
    jobs = [
        NewJob("a", sample, "here", paper_id, kind="echo", about={"part": sample})
        for sample in range(3)
    ]
    opened = batch_records.reopen_batch(database, batch.name)
    assert batch_papers.add_jobs(database, opened, jobs[:2]) == 2
    assert batch_papers.add_jobs(database, opened, jobs) == 1
    # Then a claim tells what each is about, and does not carry the paper's text
    batch_control.cancel(database, other.name)
    claimed = [claim_one(database) for _ in jobs]
    assert [(c.kind, c.about, c.text) for c in claimed] == [
        ("echo", {"part": sample}, "") for sample in range(3)
    ]
    assert [event.kind for event in job_events.events(database, claimed[0].job_id)] == [
        *("queued", "claimed")
    ]
