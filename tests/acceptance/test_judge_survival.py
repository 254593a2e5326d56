"""No verdict is lost or stored twice when a judging command and its worker are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import batch_progress
from db.schema import JUDGE_QUEUE, Job, JobEvent
from db.schema_judging import Verdict
from db.session import Database
from dispatch.broker import serve
from settings import Settings
from testing.small_models import install_embedding_model
from tests.chat_server import fuller_review_wins, serve_chat
from tests.integration.judge.rivals import ECHOES, NOISE, POINTS
from tests.site import FAST, Process, Site, wait_until, write_papers
from worker.api_engines import ApiEngines

N_PAPERS = 10
#: A judging command matches the papers before it asks, in seconds.
WAIT_SECONDS = 240.0
pytestmark = pytest.mark.timeout(900)
#: Questions that a cpu worker has with the judge at the same time.
N_SLOTS = ApiEngines.SLOTS
#: Answers that are let through before the kill.
N_ANSWERED = 6
RIVALS = ("echo", "noise", "--reference", "people", "--min-papers", "5")
COMMAND = (
    *("judge", "pairwise", *RIVALS),
    # As many as a worker has slots: what it holds has then been asked.
    *("--concurrency", "8"),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with papers, human reviews and those of two systems, imported and matched:
    the vectors of the points are in its database, so only one process loads the model."""
    folder = tmp_path_factory.mktemp("prepared")
    site = Site(folder / "home", FAST)
    install_embedding_model(site.home)
    papers = write_papers(folder / "papers", N_PAPERS)
    assert site.run("submit", str(papers), "--batch", "all", "--reviewer", "demo-7").code == 0
    for name, points in (("people", POINTS), ("echo", ECHOES), ("noise", NOISE)):
        # The paper's name makes each question's text its own.
        lines = [
            json.dumps(
                {
                    "custom_id": f"paper-{i:03}",
                    "text": "\n".join([*(text for _, text in points), f"This is paper-{i:03}."]),
                }
            )
            for i in range(N_PAPERS)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
        imported = site.run(
            *("import", "reviews", str(folder / f"{name}.jsonl")),
            *("--reviewer", name, "--format", "text"),
        )
        assert imported.code == 0, imported
    matched = site.run("judge", "match", *RIVALS)
    assert matched.code == 0, matched
    return site.home


@pytest.fixture
def site(prepared: Path, tmp_path: Path) -> Site:
    """A site of its own for a test, made from the prepared home."""
    home = shutil.copytree(prepared, tmp_path / "home", symlinks=True)
    # Claims are counted: the leases of the killed worker end by its successor's recovery.
    return Site(home, FAST | {"REFEREE_LEASE_SECONDS": "60"})


class Gate:
    """Answers some questions and delays all others until it is opened."""

    def __init__(self, n_answered: int) -> None:
        self._left = n_answered
        self._lock = threading.Lock()
        self.open = threading.Event()

    def answer(self, body: dict[str, Any]) -> str:
        with self._lock:
            self._left -= 1
            passes = self._left >= 0
        assert passes or self.open.wait(120)
        return fuller_review_wins(body)


def jobs(site: Site, *states: str) -> dict[int, int]:
    """Attempt of each job on the judge's queue in these states, by id."""
    with site.database() as database:
        return _jobs(database, *states)


def wait_for_jobs(site: Site, state: str, condition: Callable[[int], bool]) -> None:
    """Wait until the number of the judge's jobs in this state is as it should be."""
    with site.database() as database:
        wait_until(lambda: condition(len(_jobs(database, state))), WAIT_SECONDS)


def _jobs(database: Database, *states: str) -> dict[int, int]:
    query = select(Job.id, Job.attempt).where(Job.queue == JUDGE_QUEUE, Job.state.in_(states))
    with database.read() as on:
        return dict(on.execute(query).all())


def kill(*processes: Process) -> None:
    """kill -9, with all that the process started."""
    for process in processes:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)


def test_only_lost_answers_are_asked_for_again(site: Site) -> None:
    gate = Gate(N_ANSWERED)
    with (
        serve_chat(gate.answer) as server,
        serve(Settings(home=site.home, broker_url="")) as served,
    ):
        site.environment["REFEREE_BROKER_URL"] = served.url
        command = (*COMMAND, "--endpoint", server.url, "--model", "some-judge")
        worker = site.start("worker", "--cpu")
        wait_until(lambda: "ready" in site.output("worker"), WAIT_SECONDS)
        judge = site.start(*command, fresh=False)
        # When some questions are answered, and others are with the judge
        wait_for_jobs(site, "succeeded", lambda n: n == N_ANSWERED)
        wait_until(lambda: len(server.bodies) == N_ANSWERED + N_SLOTS)
        wait_for_jobs(site, "running", lambda n: n == N_SLOTS)
        kill(judge, worker)
        running = jobs(site, "running")
        assert len(server.bodies) == N_ANSWERED + len(running)
        gate.open.set()
        # Then a worker and the same command go on
        worker = site.start("worker", "--cpu", "--exit-when-idle", "0.5s")
        done = site.run(*command, "--json", timeout=WAIT_SECONDS)
        assert done.code == 0, done
        # And the worker exits when no question is left
        assert worker.wait(timeout=WAIT_SECONDS) == 0, site.output("worker")
    # Every question has one verdict, and only those whose answers were lost were asked twice
    n_questions = sum(len(jobs(site, state)) for state in ("succeeded",))
    assert jobs(site, "queued", "running", "failed", "cancelled", "expired") == {}
    assert n_questions >= 2 * N_PAPERS
    whole = select(Verdict.paper_id, Verdict.shown_first, Verdict.repetition)
    with site.database() as database, database.read() as on:
        verdicts = on.execute(whole.where(Verdict.aspect.is_(None), Verdict.method != "x")).all()
        judged = [v for v in verdicts if v.shown_first != "neither"]
        claimed = Counter(
            on.scalars(
                select(JobEvent.job_id)
                .join(Job, Job.id == JobEvent.job_id)
                .where(JobEvent.kind == "claimed", Job.queue == JUDGE_QUEUE)
            )
        )
    assert len(judged) == len(set(judged)) == n_questions
    assert len(server.bodies) == n_questions + len(running)
    assert {job for job, n in claimed.items() if n > 1} == set(running)
    texts = Counter(json.dumps([body["messages"], body["seed"]]) for body in server.bodies)
    assert sorted(texts.values()) == [1] * (n_questions - len(running)) + [2] * len(running)


def test_a_worker_does_not_end_while_a_question_waits_or_runs(site: Site) -> None:
    gate = Gate(0)
    with (
        serve_chat(gate.answer) as server,
        serve(Settings(home=site.home, broker_url="")) as served,
    ):
        site.environment["REFEREE_BROKER_URL"] = served.url
        command = (*COMMAND, "--endpoint", server.url, "--model", "some-judge")
        worker = site.start("worker", "--cpu")
        wait_until(lambda: "ready" in site.output("worker"), WAIT_SECONDS)
        judge = site.start(*command, fresh=False)
        wait_until(server.bodies.__len__, WAIT_SECONDS)
        # Given questions that a worker holds or that wait, and a worker that may idle briefly
        short = site.start("worker", "--cpu", "--exit-when-idle", "0.1s")
        with site.database() as database:
            names = [batch.name for batch in batch_progress.statuses(database)]
        (batch,) = [name for name in names if name.startswith("judge-")]
        wait_for_jobs(site, "running", lambda n: n >= 9)
        assert short.poll() is None
        # A judge's batch is shown and cancelled like any other
        assert site.run("cancel", batch).code == 0
        gate.open.set()
        assert judge.wait(timeout=WAIT_SECONDS) == 1, site.output("judge")
        assert "its job was cancelled" in site.output("judge")
        assert short.wait(timeout=WAIT_SECONDS) == 0, site.output("worker")
        worker.terminate()
        assert worker.wait(timeout=WAIT_SECONDS) == 0, site.output("worker")
    assert jobs(site, "queued", "running") == {}
