"""Whatever dies, every paper gets exactly one review."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import redis

from tests.site import FAST, SCRIPTED, Site, wait_until, write_papers


def scripted(tmp_path: Path, **more: str) -> Site:
    return Site(tmp_path / "home", FAST | SCRIPTED | more)


def assert_each_reviewed_once(site: Site, batch: str, n: int) -> None:
    lines = site.exported(batch)
    assert len(lines) == n
    assert len({line["custom_id"] for line in lines}) == n
    assert all(line["state"] == "succeeded" and line["review"] for line in lines)
    done = site.run("sql", "SELECT count(*) AS n FROM review", "--format", "json")
    assert f'"n": {n}' in done.out


def test_kill_9_of_everything_in_the_middle_of_a_review_loses_nothing(tmp_path: Path) -> None:
    # Given six slow papers, some of them in the engine
    site = scripted(tmp_path, SCRIPTED_SLOW_SECONDS="3")
    papers = write_papers(tmp_path / "papers", 6, "SCRIPT: slow")
    with site.up() as up:
        assert site.run("submit", str(papers), "--batch", "night", "--reviewer", "demo-7").code == 0
        site.wait_for("night", lambda n: n["running"])
        # When the worker and its supervisor are killed
        for pid in (up.pid, *site.workers_of(up)):
            os.kill(pid, signal.SIGKILL)
        up.wait()
    assert site.counts("night")["succeeded"] < 6
    # Then `referee up` again finishes the batch, each paper once
    with site.up():
        site.wait_for("night", lambda n: n["succeeded"] == 6)
    assert_each_reviewed_once(site, "night", 6)


def test_a_killed_worker_is_replaced_and_its_papers_are_done_once(tmp_path: Path) -> None:
    site = scripted(tmp_path, SCRIPTED_SLOW_SECONDS="3")
    papers = write_papers(tmp_path / "papers", 6, "SCRIPT: slow")
    with site.up() as up:
        site.run("submit", str(papers), "--batch", "night", "--reviewer", "demo-7")
        site.wait_for("night", lambda n: n["running"])
        os.kill(site.workers_of(up)[0], signal.SIGKILL)
        site.wait_for("night", lambda n: n["succeeded"] == 6)
    assert_each_reviewed_once(site, "night", 6)


def test_sigterm_gives_running_papers_back_without_using_an_attempt(tmp_path: Path) -> None:
    # Given a paper that would run for an hour
    site = scripted(tmp_path)
    papers = write_papers(tmp_path / "papers", 1, "SCRIPT: hang")
    with site.up():
        site.run("submit", str(papers), "--batch", "night", "--reviewer", "demo-7")
        site.wait_for("night", lambda n: n["running"])
        # When everything is told to stop (the block's end sends SIGTERM to `up`)
    # Then the paper waits again, and no attempt is gone
    assert site.counts("night")["queued"] == 1
    rows = site.run("sql", "SELECT attempt - given_back AS used FROM job", "--format", "json")
    assert '"used": 0' in rows.out


def test_sigterm_lets_papers_finish_that_end_in_time(tmp_path: Path) -> None:
    site = scripted(tmp_path, REFEREE_DRAIN_SECONDS="40", SCRIPTED_SLOW_SECONDS="8")
    papers = write_papers(tmp_path / "papers", 2, "SCRIPT: slow")
    with site.up():
        site.run("submit", str(papers), "--batch", "night", "--reviewer", "demo-7")
        site.wait_for("night", lambda n: n["running"] == 2)
    assert site.counts("night")["succeeded"] == 2


def test_a_flushed_broker_is_healed_from_the_database(tmp_path: Path) -> None:
    site = scripted(tmp_path, SCRIPTED_SLOTS="1", SCRIPTED_SLOW_SECONDS="1")
    papers = write_papers(tmp_path / "papers", 6, "SCRIPT: slow")
    with site.up():
        site.run("submit", str(papers), "--batch", "night", "--reviewer", "demo-7")
        url = json.loads((site.home / "run" / "broker.json").read_text())["url"]
        with redis.Redis.from_url(url) as client:
            client.flushall()
        site.wait_for("night", lambda n: n["succeeded"] == 6)
    assert_each_reviewed_once(site, "night", 6)


def test_a_memory_error_costs_an_attempt_and_no_slot(tmp_path: Path) -> None:
    # Given more papers that raise MemoryError than the worker has threads
    site = scripted(tmp_path, SCRIPTED_SLOTS="2")
    bad = write_papers(tmp_path / "bad", 4, "SCRIPT: memory")
    good = write_papers(tmp_path / "good", 4)
    with site.up():
        site.run("submit", str(bad), "--batch", "bad", "--reviewer", "demo-7")
        site.wait_for("bad", lambda n: n["failed"] == 4)
        # Then the worker still reviews, and each bad paper names its reason
        done = site.run("submit", str(good), "--batch", "good", "--reviewer", "demo-7", "--wait")
        assert done.code == 0, done
    assert site.json("status", "bad")["errors"] == {"attempts": 4}


def test_a_submit_without_a_broker_succeeds_and_says_so(tmp_path: Path) -> None:
    site = scripted(tmp_path)
    papers = write_papers(tmp_path / "papers", 3)
    done = site.run("submit", str(papers), "--batch", "early", "--reviewer", "demo-7")
    assert done.code == 0
    assert "No broker was reached" in done.err
    with site.up():
        site.wait_for("early", lambda n: n["succeeded"] == 3)
    assert_each_reviewed_once(site, "early", 3)


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
    """Jobs in the database, asked faster than a command line starts."""
    with closing(sqlite3.connect(site.home / "referee.db", timeout=30)) as database:
        return int(database.execute("SELECT count(*) FROM job").fetchone()[0])


def test_a_paper_that_kills_its_worker_is_named_and_its_neighbours_are_reviewed(
    tmp_path: Path,
) -> None:
    # Given five papers that are in the engine together with one that ends the whole process, and
    # one that takes all that is in the engine along
    site = scripted(tmp_path, SCRIPTED_SLOW_SECONDS="0.3")
    papers = write_papers(tmp_path / "papers", 5, "SCRIPT: slow")
    (papers / "killer.txt").write_text("A Deadly Paper\n\nAbstract\nWe kill.\n\nSCRIPT: die\n")
    (papers / "crash.txt").write_text("A Bad Paper\n\nAbstract\nWe crash.\n\nSCRIPT: crash\n")
    with site.up():
        site.run("submit", str(papers), "--batch", "night", "--reviewer", "demo-7")
        site.wait_for("night", lambda n: n["succeeded"] == 5, 120)
        site.wait_for("night", lambda n: n["failed"] == 2, 120)
    # Then these two failed by name, and no other paper used up an attempt by them
    lines = {line["custom_id"]: line for line in site.exported("night")}
    for name in ("killer", "crash"):
        assert f"{name} was alone in the engine 2 times" in str(lines[name]["error"])
    query = "SELECT max(attempt - given_back) AS used FROM job WHERE state = 'succeeded'"
    assert json.loads(site.run("sql", query, "--format", "json").out) == [{"used": 1}]
