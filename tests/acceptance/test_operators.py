"""Operating workers: drain, resume, exit when idle."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from db.worker_nodes import WorkerNode, listing
from dispatch.broker import serve
from models.text.aspects import SEVEN
from models.text.parsing import render
from models.text.review import Item
from settings import Settings
from tests.chat_server import serve_chat
from tests.conftest import PostgresServer
from tests.site import FAST, SCRIPTED, Process, Site, wait_until, write_papers

#: After their start, workers learn of jobs only by messages.
NO_RECONCILE = {"REFEREE_RECONCILE_SECONDS": "600", "REFEREE_LEASE_SECONDS": "6"}
QUEUE = "reviews.smollm2-135m"


@dataclass(frozen=True)
class Running:
    """A running site."""

    site: Site
    up: Process
    gate: Path
    #: How its worker's process crashes: one way on each database is enough.
    end: str


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One `referee up` with 90 slots on each of the two databases; the last test ends it."""
    folder = tmp_path_factory.mktemp("operators")
    more = {"SCRIPTED_SLOTS": "90", "SCRIPTED_GATE": str(folder / "gate")}
    site = Site(folder / "home", FAST | SCRIPTED | NO_RECONCILE | more)
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        site.environment["REFEREE_DATABASE_URL"] = server.create("operators")
    with site.up() as up:
        end = "lost" if request.param == "postgresql" else "killed"
        yield Running(site, up, folder / "gate", end)
    if request.param == "postgresql":
        server.drop("operators")


def node(site: Site) -> WorkerNode:
    """The one worker that serves a local model."""
    with site.database() as database:
        (found,) = [n for n in listing(database) if n.queue != "cpu"]
    return found


def submit(site: Site, folder: Path, n: int, text: str, batch: str) -> None:
    papers = write_papers(folder / "papers", n, f"{text}\nFor {batch}.")
    done = site.run("submit", str(papers), "--batch", batch, "--reviewer", "demo-7")
    assert done.code == 0, done


@contextmanager
def broker(site: Site) -> Iterator[redis.Redis]:
    url = json.loads((site.home / "run" / "broker.json").read_text())["url"]
    with redis.Redis.from_url(url) as client:
        yield client


def attempts_used(site: Site, batch: str) -> int:
    query = (
        "SELECT max(attempt - given_back) AS used FROM job JOIN batch ON batch.id = job.batch_id "
        f"WHERE batch.name = '{batch}'"
    )
    (row,) = json.loads(site.run("sql", query, "--format", "json").out)
    return int(row["used"])


def test_a_drained_worker_finishes_90_papers_and_leaves_the_rest(
    running: Running, tmp_path: Path
) -> None:
    # Given 100 papers, 90 of them in flight
    site = running.site
    submit(site, tmp_path, 100, "SCRIPT: wait", "finished")
    site.wait_for("finished", lambda n: n["running"] == 90)
    before = node(site)
    # When the worker is drained
    done = site.run("workers", "drain", before.name, fresh=True)
    assert (done.code, done.out) == (0, f"{before.name} is draining; 90 papers still running.\n")
    log = site.home / "logs" / "worker-local.log"
    wait_until(lambda: "action='draining'" in log.read_text())
    assert "draining, last seen" in site.run("workers").out
    running.gate.touch()
    # Then the 90 end, the other ten stay queued, and the worker remains registered
    site.wait_for("finished", lambda n: n["running"] == 0)
    counts = site.counts("finished")
    assert (counts["succeeded"], counts["queued"]) == (90, 10)
    assert (node(site).state, node(site).pid) == ("draining", before.pid)
    # And resumed, it takes them
    assert site.run("workers", "resume", before.host).code == 0
    site.wait_for("finished", lambda n: n["succeeded"] == 100)
    assert node(site).pid == before.pid
    assert len({line["review"]["id"] for line in site.exported("finished")}) == 100


def test_drain_with_a_time_limit_releases_90_papers_with_their_messages(
    running: Running, tmp_path: Path
) -> None:
    # Given 90 papers in flight that run for an hour
    site = running.site
    submit(site, tmp_path, 90, "SCRIPT: hang", "hung")
    site.wait_for("hung", lambda n: n["running"] == 90)
    # When the worker is drained with a limit of one second
    assert site.run("workers", "drain", node(site).name, "--within", "1s").code == 0
    # Then all are queued again with all their attempts, and messages are sent
    site.wait_for("hung", lambda n: n["queued"] == 90)
    assert attempts_used(site, "hung") == 0
    with broker(site) as client:
        # Reconcile may have sent messages for papers whose messages were in transit.
        wait_until(lambda: client.llen(QUEUE) >= 90)
        # And a worker that consumes takes them all, by their messages only
        site.run("workers", "resume", node(site).name)
        site.wait_for("hung", lambda n: n["running"] == 90)
    site.run("cancel", "hung")
    site.wait_for("hung", lambda n: n["cancelled"] == 90)


def test_worker_restarted_after_a_crash_is_still_drained(running: Running, tmp_path: Path) -> None:
    # Given a drained worker with a paper that crashes its engine
    site, end = running.site, running.end
    running.gate.unlink(missing_ok=True)
    submit(site, tmp_path, 1, "SCRIPT: wait\nSCRIPT: lose", end)
    site.wait_for(end, lambda n: n["running"] == 1)
    before = node(site)
    assert site.run("workers", "drain", before.name).code == 0
    # When its process is killed, or ends because the engine is lost
    if end == "killed":
        os.kill(before.pid, signal.SIGKILL)
    running.gate.touch()
    # Then the process that replaces it takes no paper
    wait_until(lambda: node(site).pid != before.pid)
    assert (node(site).name, node(site).state) == (before.name, "draining")
    site.wait_for(end, lambda n: n["queued"] == 1)
    assert site.run("cancel", end).code == 0
    submit(site, tmp_path / "more", 1, "", f"after {end}")
    assert site.counts(f"after {end}")["queued"] == 1
    # Until an operator resumes it
    assert site.run("workers", "resume", before.name).code == 0
    site.wait_for(f"after {end}", lambda n: n["succeeded"] == 1)


def test_sigterm_releases_the_papers_of_90_slots(running: Running, tmp_path: Path) -> None:
    site = running.site
    submit(site, tmp_path, 90, "SCRIPT: hang", "night")
    site.wait_for("night", lambda n: n["running"] == 90)
    running.up.send_signal(signal.SIGTERM)
    running.up.wait(timeout=90)
    assert site.counts("night")["queued"] == 90
    assert attempts_used(site, "night") == 0


def test_an_idle_worker_ends_with_0_and_a_busy_one_does_not(tmp_path: Path) -> None:
    # Given a paper that takes longer than the idle limit, and its own broker
    more = {"SCRIPTED_SLOW_SECONDS": "1", "SCRIPTED_SLOTS": "1"}
    site = Site(tmp_path / "home", FAST | SCRIPTED | more)
    assert site.run("db", "upgrade").code == 0
    with serve(Settings(home=site.home, broker_url="")) as served:
        site.environment["REFEREE_BROKER_URL"] = served.url
        submit(site, tmp_path, 2, "SCRIPT: slow", "night")
        # And a supervisor, which ends with its worker
        begun = ("worker", "--reviewer", "demo-7", "--gpus", "0", "--exit-when-idle", "0.5s")
        worker = site.start(*begun)
        # When everything is done
        # Then it exits after both papers, and no worker is registered
        assert worker.wait(timeout=90) == 0, site.output("worker")
    assert site.counts("night")["succeeded"] == 2
    assert site.run("workers").out == "No worker has registered.\n"


API_REVIEWER = """\
name: local-server
kind: api
aspects: "7"
endpoint: {{url: "{url}", model: some-model, requests_per_minute: 6000}}
"""


def test_a_cpu_worker_waits_for_an_answer_before_it_ends(tmp_path: Path) -> None:
    # Given a server that delays its only answer
    site = Site(tmp_path / "home", FAST)
    asked, may_answer = threading.Event(), threading.Event()

    def answer(_: dict[str, Any]) -> str:
        asked.set()
        assert may_answer.wait(90)
        items = [Item(key, 0, f"On {key}", f"What matters is its {key}.") for key in SEVEN.keys]
        return render(items, SEVEN)

    with serve_chat(answer) as server, serve(Settings(home=site.home, broker_url="")) as served:
        site.environment["REFEREE_BROKER_URL"] = served.url
        (tmp_path / "local-server.yaml").write_text(API_REVIEWER.format(url=server.url))
        assert site.run("db", "upgrade").code == 0
        assert site.run("reviewer", "add", str(tmp_path / "local-server.yaml")).code == 0
        papers = write_papers(tmp_path / "papers", 1)
        command = ("submit", str(papers), "--batch", "api", "--reviewer", "local-server")
        assert site.run(*command).code == 0
        worker = site.start("worker", "--cpu", "--exit-when-idle", "0.5s")
        assert asked.wait(90)
        # When heartbeats continue for several times the idle limit
        with site.database() as database:
            seen: set[float] = set()
            wait_until(lambda: seen.update(n.seen_at for n in listing(database)) or len(seen) > 5)
        # Then it still waits, and exits after the answer
        assert worker.poll() is None
        may_answer.set()
        assert worker.wait(timeout=90) == 0, site.output("worker")
    assert site.counts("api")["succeeded"] == 1
    assert len(server.bodies) == 1


def test_unknown_workers_are_refused(tmp_path: Path) -> None:
    done = Site(tmp_path / "home", FAST).run("workers", "drain", "nobody")
    assert done.code == 2
    assert "no worker or host 'nobody'" in done.err
