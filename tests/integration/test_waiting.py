"""Waiting commands give up when no worker takes jobs of their queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import null, update

from db import completion, worker_nodes
from db.schema import JUDGE_QUEUE, WorkerNodeRow
from db.session import Database
from dispatch.app import CPU_QUEUE
from dispatch.broker import Broker
from dispatch.waiting import wait_for_batch
from errors import MissingPart
from judge import question_queue
from settings import Settings
from tests.integration.db.content import QUEUE, a_review, a_reviewer, claim_one, paper, submit
from worker.identity import Identity

PATIENCE = 60.0


def register_worker(database: Database, queue: str) -> None:
    worker_nodes.register_worker(
        database, **asdict(Identity("w1", "h", 1, "", (queue,), "", 1, "", "v"))
    )


def wait(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[], object] = lambda: None,
    *,
    queue: str = QUEUE,
) -> str:
    """Wait for the batch while its worker is alive; `end` is called at the third poll."""
    looks = 0

    def look(_: float) -> None:
        nonlocal looks
        looks += 1
        assert looks < 9, "it waits for ever"
        worker_nodes.heartbeat(database, "w1", reviewer="")
        if looks == 3:
            end()

    monkeypatch.setattr(time, "sleep", look)
    monkeypatch.setattr(time, "monotonic", lambda: 2 * PATIENCE * looks)
    status = wait_for_batch(
        database, "b", queue=queue, progress=lambda *_: None, stall_seconds=PATIENCE
    )
    return status.state


def test_a_batch_is_not_waited_for_when_all_workers_drain(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(database, "b", paper("a"))
    register_worker(database, QUEUE)
    worker_nodes.drain_with_complaint(database, "w1", "five papers in a row had no answer")
    with pytest.raises(MissingPart, match="those there are drain"):
        wait(database, monkeypatch)


def test_jobs_of_a_draining_worker_are_waited_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(database, "b", paper("a"))
    register_worker(database, QUEUE)
    claim = claim_one(database, "w1")
    worker_nodes.set_state(database, "w1", "draining")
    state = wait(
        database, monkeypatch, lambda: completion.commit_review(database, claim, a_review())
    )
    assert state == "completed"


def test_worker_of_a_version_with_one_queue_serves_only_that_queue(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(database, "b", paper("a"), reviewer=a_reviewer(database, "other-7", "cpu.other"))
    register_worker(database, QUEUE)
    with database.write() as on:
        on.execute(update(WorkerNodeRow).values(queues=null()))
    (node,) = worker_nodes.listing(database)
    assert node.queues == (QUEUE,)
    with pytest.raises(MissingPart, match=r"No worker serves the queue cpu\.other"):
        wait(database, monkeypatch, queue="cpu.other")


def test_questions_are_asked_locally_while_the_cpu_worker_drains(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path)
    monkeypatch.setattr("dispatch.broker.find", lambda _: Broker("redis://127.0.0.1:1/0"))
    monkeypatch.setattr(Broker, "answers", lambda _: True)
    # A worker that serves only the cpu queue is of a version without question jobs
    register_worker(database, CPU_QUEUE)
    assert not question_queue._is_served(database, settings)
    worker_nodes.unregister_worker(database, "w1")
    register_worker(database, JUDGE_QUEUE)
    assert question_queue._is_served(database, settings)
    worker_nodes.drain_with_complaint(database, "w1", "five papers in a row had no answer")
    assert not question_queue._is_served(database, settings)
