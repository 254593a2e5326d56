"""Every paper gets exactly one review when workers, broker or commands are killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from testing.servers import frozen
from tests.site import FAST, SCRIPTED, Finished, Process, Site, wait_until, write_papers

WAIT = "SCRIPT: wait"


def scripted(folder: Path, **more: str) -> Site:
    """A site whose papers with "SCRIPT: wait" wait for the file `gate` in the folder."""
    gate = {"SCRIPTED_GATE": str(folder / "gate")}
    return Site(folder / "home", FAST | SCRIPTED | gate | more)


def submit(site: Site, folder: Path, batch: str, n: int, text: str = "") -> Finished:
    """Submit n papers that are in no other batch."""
    papers = write_papers(folder / batch, n, f"{text}\nFor {batch}.")
    done = site.run("submit", str(papers), "--batch", batch, "--reviewer", "demo-7")
    assert done.code == 0, done
    return done


def assert_each_reviewed_once(site: Site, batch: str, n: int) -> None:
    lines = site.exported(batch)
    assert len(lines) == n
    assert len({line["custom_id"] for line in lines}) == n
    assert all(line["state"] == "succeeded" and line["review"] for line in lines)
    query = (
        "SELECT count(*) AS n FROM review JOIN job ON job.id = review.job_id "
        f"JOIN batch ON batch.id = job.batch_id WHERE batch.name = '{batch}'"
    )
    assert json.loads(site.run("sql", query, "--format", "json").out) == [{"n": n}]


def attempts_used(site: Site, batch: str) -> set[int]:
    """Attempts used by the queued and finished jobs of a batch."""
    query = (
        "SELECT DISTINCT attempt - given_back AS used FROM job JOIN batch ON batch.id = batch_id "
        f"WHERE batch.name = '{batch}' AND job.state <> 'failed'"
    )
    return {row["used"] for row in json.loads(site.run("sql", query, "--format", "json").out)}


@dataclass(frozen=True)
class Night:
    """A running site with four slots, and the output of a submit before it was started."""

    site: Site
    up: Process
    folder: Path
    early: Finished

    @property
    def gate(self) -> Path:
        """Waiting papers end when this file exists."""
        return self.folder / "gate"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp("night")
    site = scripted(folder, SCRIPTED_SLOW_SECONDS="0.3")
    early = submit(site, folder, "early", 3)
    with site.up() as up:
        yield Night(site, up, folder, early)


@pytest.fixture
def night(shared: Night) -> Night:
    """One `referee up` for all tests, its gate closed; the last test ends it."""
    shared.gate.unlink(missing_ok=True)
    return shared


def test_submit_without_a_broker_succeeds_with_a_message(night: Night) -> None:
    assert "No broker was reached" in night.early.err
    night.site.wait_for("early", lambda n: n["succeeded"] == 3)
    assert_each_reviewed_once(night.site, "early", 3)


def test_a_killed_worker_is_replaced_and_its_papers_are_done_once(night: Night) -> None:
    submit(night.site, night.folder, "killed", 6, WAIT)
    night.site.wait_for("killed", lambda n: n["running"])
    (worker,) = night.site.workers_of(night.up)
    os.kill(worker, signal.SIGKILL)
    night.gate.touch()
    night.site.wait_for("killed", lambda n: n["succeeded"] == 6)
    assert_each_reviewed_once(night.site, "killed", 6)
    assert night.site.workers_of(night.up) != [worker]


def test_messages_of_a_flushed_broker_are_restored_from_the_database(night: Night) -> None:
    # Given two papers that are known only by their messages, and four in the engine
    submit(night.site, night.folder, "flushed", 6, WAIT)
    night.site.wait_for("flushed", lambda n: n["running"] == 4)
    with redis.Redis.from_url(broker_url(night.site)) as client:
        client.flushall()
    night.gate.touch()
    night.site.wait_for("flushed", lambda n: n["succeeded"] == 6)
    assert_each_reviewed_once(night.site, "flushed", 6)


def test_frozen_broker_loses_no_lease_and_does_not_delay_submits(night: Night) -> None:
    # Given two papers in the engine when the broker freezes
    site = night.site
    submit(site, night.folder, "before", 2, WAIT)
    site.wait_for("before", lambda n: n["running"] == 2)
    lost = site.events("lease_expired")
    with frozen(broker_url(site)):
        # When others are submitted, and the time of two leases has passed
        begun = time.monotonic()
        assert "No broker was reached" in submit(site, night.folder, "meanwhile", 2).err
        assert time.monotonic() - begun < 30
        wait_until(lambda: time.monotonic() - begun > 7)
        # Then this worker still holds the two, and their reviews are stored
        night.gate.touch()
        site.wait_for("before", lambda n: n["succeeded"] == 2)
        assert site.events("lease_expired") == lost
    # And the others run once the broker answers
    site.wait_for("meanwhile", lambda n: n["succeeded"] == 2)
    assert_each_reviewed_once(site, "before", 2)
    assert_each_reviewed_once(site, "meanwhile", 2)


def broker_url(site: Site) -> str:
    return str(json.loads((site.home / "run" / "broker.json").read_text())["url"])


def test_memory_error_uses_an_attempt_and_keeps_the_slot(night: Night) -> None:
    # Given papers that raise MemoryError more often than the worker has threads
    submit(night.site, night.folder, "bad", 4, "SCRIPT: memory")
    night.site.wait_for("bad", lambda n: n["failed"] == 4)
    # Then the worker still reviews in all its slots, and each bad paper has its error
    submit(night.site, night.folder, "good", 4, WAIT)
    night.site.wait_for("good", lambda n: n["running"] == 4)
    night.gate.touch()
    night.site.wait_for("good", lambda n: n["succeeded"] == 4)
    assert night.site.json("status", "bad", fresh=True)["errors"] == {"attempts": 4}


def test_a_paper_that_kills_its_worker_is_named_and_its_neighbours_are_reviewed(
    night: Night,
) -> None:
    # Given five papers that are in the engine together with one that ends the whole process, and
    # one that fails all papers in the engine
    papers = night.folder / "deadly"
    papers.mkdir()
    (papers / "killer.txt").write_text("A Deadly Paper\n\nAbstract\nWe kill.\n\nSCRIPT: die\n")
    (papers / "crash.txt").write_text("A Bad Paper\n\nAbstract\nWe crash.\n\nSCRIPT: crash\n")
    submit(night.site, night.folder, "deadly", 5, "SCRIPT: slow")
    night.site.wait_for("deadly", lambda n: (n["succeeded"], n["failed"]) == (5, 2), 120)
    # Then only these two failed, and no other paper lost an attempt
    lines = {line["custom_id"]: line for line in night.site.exported("deadly")}
    for name in ("killer", "crash"):
        assert f"{name} was alone in the engine 2 times" in str(lines[name]["error"])
    assert attempts_used(night.site, "deadly") == {1}


# The last on the shared site, which it ends.
def test_sigterm_gives_running_papers_back_without_using_an_attempt(night: Night) -> None:
    # Given a paper that runs for an hour
    submit(night.site, night.folder, "hung", 1, "SCRIPT: hang")
    night.site.wait_for("hung", lambda n: n["running"])
    # When all processes are stopped
    night.up.send_signal(signal.SIGTERM)
    assert night.up.wait(timeout=90) == 0
    # Then the paper is queued again, and no attempt was used
    assert night.site.counts("hung")["queued"] == 1
    assert attempts_used(night.site, "hung") == {0}


def test_kill_9_of_everything_loses_nothing_and_sigterm_lets_papers_end_in_time(
    tmp_path: Path,
) -> None:
    # Given six papers, some of them in the engine
    site, gate = scripted(tmp_path, REFEREE_DRAIN_SECONDS="40"), tmp_path / "gate"
    with site.up() as up:
        submit(site, tmp_path, "night", 6, WAIT)
        site.wait_for("night", lambda n: n["running"])
        # When the worker and its supervisor are killed
        for pid in (up.pid, *site.workers_of(up)):
            os.kill(pid, signal.SIGKILL)
        up.wait()
    assert site.counts("night")["succeeded"] == 0
    # Then `referee up` again finishes the batch, each paper once
    gate.touch()
    with site.up() as up:
        site.wait_for("night", lambda n: n["succeeded"] == 6)
        assert_each_reviewed_once(site, "night", 6)
        # And when it is stopped while two papers are in the engine, these end first
        gate.unlink()
        submit(site, tmp_path, "morning", 2, WAIT)
        site.wait_for("morning", lambda n: n["running"] == 2)
        up.send_signal(signal.SIGTERM)
        log = site.home / "logs" / "worker-local.log"
        wait_until(lambda: "Warm shutdown" in log.read_text())
        assert site.counts("morning")["running"] == 2
        gate.touch()
    assert site.counts("morning")["succeeded"] == 2


def test_kill_9_in_the_middle_of_a_submit_of_500_papers_stores_nothing_twice(
    tmp_path: Path,
) -> None:
    # Given a submit of 500 papers that was killed after some chunks
    site = scripted(tmp_path, REFEREE_SUBMIT_CHUNK="20")
    papers = write_papers(tmp_path / "papers", 500)
    command = ("submit", str(papers), "--batch", "big", "--reviewer", "demo-7")
    assert site.run("db", "upgrade").code == 0
    submit = site.start(*command)
    wait_until(lambda: _stored(site) >= 100, 30)
    submit.kill()
    submit.wait()
    assert 100 <= _stored(site) < 500
    # When the same command runs again
    again = site.run(*command)
    # Then every paper has one job, and at most one chunk was read again
    assert again.code == 0, again
    assert site.counts("big")["total"] == 500
    assert site.events("queued") == 500


def _stored(site: Site) -> int:
    """Number of jobs in the database, without starting a command."""
    with closing(sqlite3.connect(site.home / "referee.db", timeout=30)) as database:
        return int(database.execute("SELECT count(*) FROM job").fetchone()[0])
