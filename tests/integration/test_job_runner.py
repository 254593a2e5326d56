"""A worker's slot handling a message, with the real database and a scripted engine."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import select, update

from db import batch_papers, batch_progress, batch_records, worker_nodes
from db.batch_records import BatchOptions
from db.claims import Claim
from db.column_types import now
from db.schema import Job, PaperRow
from db.session import Database, DatabaseUnavailable, open_database
from dispatch import adapter_cache, roster
from dispatch.adapter_cache import AdapterCache
from errors import NeverStarted, RetryLater
from settings import Settings
from testing.scripted_engine import ScriptedEngine
from tests.integration.db.content import paper
from tests.integration.test_keeper import keeper_of
from worker.engines import FetchAdapter, LocalEngines
from worker.identity import Identity
from worker.idle import IdleWatch
from worker.in_flight import InFlight
from worker.job_runner import JOBS_A_DOORBELL, JobRunner
from worker.metrics import Metrics
from worker.self_check import SelfCheck

MORE = 5


class QueueDoorbell:
    """Counts the messages; raises an error when it is broken."""

    def __init__(self, works: bool) -> None:
        self.works, self.rung = works, 0

    def ring(self) -> bool:
        self.rung += 1
        return self.works


@pytest.fixture
def in_flight() -> InFlight:
    return InFlight()


@pytest.fixture(params=[True, False], ids=["broker", "no broker"])
def bell(request: pytest.FixtureRequest) -> QueueDoorbell:
    return QueueDoorbell(request.param)


@contextmanager
def reviewing(
    database: Database,
    home: Path,
    texts: Sequence[str],
    *,
    in_flight: InFlight,
    ring: Callable[[], bool] = lambda: True,
    slots: int = 1,
    kind: str = "review",
    fetch_adapter: FetchAdapter = lambda _: Path(),
) -> Iterator[JobRunner]:
    """A registered worker with these papers in its queue."""
    version, config = roster.resolve(database, "demo-7")
    assert config.base is not None
    batch = batch_records.open_batch(database, "b", version, BatchOptions())
    papers = [paper(f"{n:02}", text) for n, text in enumerate(texts)]
    batch_papers.add_papers(database, batch, papers, kind=kind)
    batch_records.finish_submit(database, batch)
    identity = Identity("w1", "h", 1, "", (version.queue,), "", slots, "", "v")
    worker_nodes.register_worker(database, **asdict(identity))
    settings = Settings(home=home)
    engines = LocalEngines(config.base.name, ScriptedEngine(slots), fetch_adapter)
    yield JobRunner(
        database=database,
        engines=engines,
        in_flight=in_flight,
        worker="w1",
        queues=[version.queue],
        settings=settings,
        metrics=Metrics(settings, "cpu"),
        self_check=SelfCheck(),
        ring=ring,
    )
    engines.close()


@pytest.fixture
def reviewer(
    database: Database, bell: QueueDoorbell, in_flight: InFlight, tmp_path: Path
) -> Iterator[JobRunner]:
    """A worker with a few more jobs in its queue than one message serves."""
    texts = [f"text {n}" for n in range(JOBS_A_DOORBELL + MORE)]
    with reviewing(database, tmp_path, texts, in_flight=in_flight, ring=bell.ring) as reviewer:
        yield reviewer


def n_succeeded(database: Database) -> int:
    return batch_progress.status(database, "b").counts["succeeded"]


def test_message_serves_a_limited_number_of_jobs_and_is_sent_again(
    database: Database, reviewer: JobRunner, bell: QueueDoorbell
) -> None:
    assert reviewer.run_waiting_jobs()
    if bell.works:
        assert (n_succeeded(database), bell.rung) == (JOBS_A_DOORBELL, 1)
        assert reviewer.run_waiting_jobs()
    # Without a broker no other worker waits, and the work continues
    assert (n_succeeded(database), bell.rung) == (JOBS_A_DOORBELL + MORE, 1)


def test_draining_worker_leaves_the_message_to_others(
    database: Database, reviewer: JobRunner, in_flight: InFlight
) -> None:
    in_flight.drain(0.0)
    assert not reviewer.run_waiting_jobs()
    assert n_succeeded(database) == 0


@pytest.mark.parametrize(
    ("error", "attempts_used", "delay_s"),
    [
        (NeverStarted("the engine is lost"), 0, 0.0),
        (DatabaseUnavailable("The database does not answer."), 0, 10.0),
        (RetryLater("quota used up", wait_s=3600.0), 0, 3600.0),
        (RetryLater("the server is busy"), 1, 10.0),
    ],
    ids=["never started", "outage", "asked to wait", "failure"],
)
def test_only_a_failure_uses_up_an_attempt(
    error: RetryLater | DatabaseUnavailable,
    attempts_used: int,
    delay_s: float,
    database: Database,
    reviewer: JobRunner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(reviewer, "_generate", fail)
    assert reviewer._run_next_job()
    assert given_back(database) == (attempts_used, pytest.approx(delay_s, abs=5))


def given_back(database: Database) -> tuple[int, float]:
    """Attempts used by the one paper that was tried, and seconds until the next."""
    tried = select(Job.attempt - Job.given_back, Job.not_before - now(), Job.state)
    with database.read() as on:
        used, wait, state = on.execute(tried.where(Job.attempt > 0)).one()
    assert state == "queued"
    return used, wait


def test_an_outage_while_an_adapter_is_fetched_uses_up_no_attempt(
    database: Database, in_flight: InFlight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an adapter that is only in an unreachable database
    monkeypatch.setattr(adapter_cache, "SHIPPED", tmp_path / "nothing")
    away = open_database(f"sqlite:///{tmp_path / 'away' / 'referee.db'}")
    away.close()
    shutil.rmtree(tmp_path / "away")
    fetch = AdapterCache(away, tmp_path).folder
    with reviewing(
        database, tmp_path, ["text"], in_flight=in_flight, fetch_adapter=fetch
    ) as reviewer:
        assert reviewer._run_next_job()
    # And other papers are claimed first for a while
    assert given_back(database) == (0, pytest.approx(10, abs=5))


def complaint(database: Database) -> str | None:
    (node,) = worker_nodes.listing(database)
    assert node.state == ("active" if node.complaint is None else "draining")
    return node.complaint


@pytest.mark.parametrize(
    ("script", "reason", "failed"),
    [
        ("memory", "MemoryError: scripted", 0),
        ("poison", "the paper cannot be generated", 0),
        # Each is tried twice at once, alone in the engine, and the last one once
        ("crash", "a step failed", 8),
    ],
)
def test_a_worker_stops_when_five_papers_in_a_row_have_no_answer(
    script: str,
    reason: str,
    failed: int,
    database: Database,
    in_flight: InFlight,
    tmp_path: Path,
) -> None:
    # Given four bad papers, a good one and six more bad ones
    bad = [f"SCRIPT: {script} {n}" for n in range(10)]
    texts = [*bad[:4], "good", *bad[4:]]
    with reviewing(database, tmp_path, texts, in_flight=in_flight) as reviewer:
        assert not reviewer.run_waiting_jobs()
    # Then the good one has reset the count, the last is not claimed, and the worker reports why
    counts = batch_progress.status(database, "b").counts
    assert (counts["succeeded"], counts["failed"]) == (1, failed)
    with database.read() as on:
        untouched = on.scalars(select(Job.custom_id).where(Job.attempt == 0)).all()
    assert untouched == ["10"]
    assert in_flight.paused
    assert (said := complaint(database)) is not None
    assert "5 different papers in a row ended here without an answer, the last for this " in said
    assert reason in said


def test_reviewer_without_any_review_does_not_stop_the_worker(
    database: Database, in_flight: InFlight, tmp_path: Path
) -> None:
    texts = [f"SCRIPT: poison {n}" for n in range(12)]
    with reviewing(database, tmp_path, texts, in_flight=in_flight) as reviewer:
        assert reviewer.run_waiting_jobs()
    with database.read() as on:
        untouched = on.scalars(select(Job.custom_id).where(Job.attempt == 0)).all()
    assert untouched == []
    assert not in_flight.paused
    assert complaint(database) is None


def test_a_worker_whose_claims_are_registered_late_is_not_idle(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a slot that is delayed between a claim's commit and its registration
    in_flight = InFlight()
    committed, registered = threading.Event(), threading.Event()
    hold = in_flight.hold

    def hold_late(claims: Sequence[Claim]) -> None:
        committed.set()
        assert registered.wait(60)
        hold(claims)

    monkeypatch.setattr(in_flight, "hold", hold_late)
    with reviewing(database, tmp_path, ["text"], in_flight=in_flight) as reviewer:
        watch = IdleWatch(database, reviewer._queues, in_flight, limit_seconds=0.0)
        keeper = keeper_of(database, tmp_path, in_flight=in_flight, idle_watch=watch)
        slot = threading.Thread(target=reviewer._run_next_job)
        slot.start()
        try:
            assert committed.wait(60)
            # When a heartbeat runs meanwhile, with an idle limit of zero
            for _ in range(5):
                keeper.beat()
            assert not keeper.idle.is_set()
        finally:
            registered.set()
            slot.join(60)
    # Then the paper is reviewed and not released, and the worker is idle afterwards
    assert n_succeeded(database) == 1
    for _ in range(3):
        keeper.beat()
    assert keeper.idle.is_set()


def test_crash_of_all_slots_does_not_count_as_failures_of_the_worker(
    database: Database, in_flight: InFlight, tmp_path: Path
) -> None:
    # Given a paper whose crash also ends the seven others in the engine
    texts = [*(f"SCRIPT: takes 0.5 {n}" for n in range(7)), "SCRIPT: crash"]
    with (
        reviewing(database, tmp_path, texts, in_flight=in_flight, slots=8) as reviewer,
        ThreadPoolExecutor(8) as threads,
    ):
        for _ in range(5):
            list(threads.map(lambda _: reviewer.run_waiting_jobs(), range(8)))
    # Then only it fails
    counts = batch_progress.status(database, "b").counts
    assert (counts["succeeded"], counts["failed"]) == (7, 1)
    assert complaint(database) is None


def test_papers_that_fail_together_at_the_server_count_once(
    database: Database, in_flight: InFlight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an unreachable server, and eight papers in flight at any time
    together = threading.Barrier(8)

    def fail(*_: object) -> None:
        together.wait(30)
        raise RetryLater("the server is busy")

    texts = [f"text {n}" for n in range(49)]
    with (
        reviewing(database, tmp_path, texts, in_flight=in_flight, slots=8) as reviewer,
        ThreadPoolExecutor(8) as threads,
    ):
        assert reviewer._run_next_job()
        monkeypatch.setattr(reviewer, "_generate", fail)
        for _ in range(4):
            assert all(threads.map(lambda _: reviewer._run_next_job(), range(8)))
        # Then the worker continues while the outage may be short
        assert complaint(database) is None
        # And stops before papers have used up their attempts
        assert all(threads.map(lambda _: reviewer._run_next_job(), range(8)))
    assert "the server is busy" in str(complaint(database))


def test_a_paper_without_text_fails_with_a_sentence(
    database: Database, in_flight: InFlight, tmp_path: Path
) -> None:
    with reviewing(database, tmp_path, ["text"], in_flight=in_flight) as reviewer:
        with database.write() as on:
            on.execute(update(PaperRow).values(body=""))
        assert reviewer._run_next_job()
    with database.read() as on:
        state, kind, said = on.execute(select(Job.state, Job.error_kind, Job.error)).one()
    assert (state, kind) == ("failed", "no_text")
    assert said == (
        "00 has no text any more, it was purged: submit its file again with "
        "`referee retry b --input DIR`."
    )
