"""Observability: metrics, logs, and workers that exit by themselves."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from db.worker_nodes import listing
from dispatch.broker import serve
from settings import Settings
from tests.site import FAST, SCRIPTED, Site, wait_until, write_papers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A migrated site with a broker, and no worker yet."""
    site = Site(tmp_path / "home", FAST | SCRIPTED | {"REFEREE_LOG_FORMAT": "json"})
    assert site.run("db", "upgrade").code == 0
    with serve(Settings(home=site.home, broker_url="")) as served:
        site.environment["REFEREE_BROKER_URL"] = served.url
        yield site


@contextmanager
def workers(site: Site, *environments: dict[str, Any]) -> Iterator[None]:
    """A worker for each environment."""
    running = [site.start("worker", "--reviewer", "demo-7", **more) for more in environments]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=30)


def signed_on(site: Site) -> int:
    with site.database() as database:
        return len(listing(database))


def complaints(site: Site) -> list[str]:
    with site.database() as database:
        return [node.complaint for node in listing(database) if node.complaint]


def scrape(port: int) -> dict[str, float]:
    """The endpoint's samples, summed over their labels; empty without an endpoint."""
    sums: dict[str, float] = {}
    with suppress(OSError):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            page = answer.read().decode()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                assert "gpu" in sample.labels
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def test_failing_worker_stops_with_a_complaint_and_a_host_has_one_endpoint(
    site: Site, tmp_path: Path
) -> None:
    # Given a healthy and a failing worker on one host, and one port for both
    port = free_port()
    site.environment |= {"REFEREE_METRICS_PORT": str(port), "SCRIPTED_SECONDS": "0.1"}
    papers = write_papers(tmp_path / "papers", 160)
    site.run("submit", str(papers), "--batch", "night", "--reviewer", "demo-7")
    site.run("pause", "--all")
    with workers(site, {}, {"SCRIPTED_SICK": "1"}):
        wait_until(lambda: signed_on(site) == 2)
        site.run("resume", "--all")
        # When the failing worker has failed several papers that others can review
        (complaint,) = wait_until(lambda: complaints(site))
        # Then it takes no more and reports why, and the other continues alone
        assert "failed the gate, against 0.0% in the rest of the fleet" in complaint
        assert complaint in site.run("workers").out
        site.wait_for("night", lambda n: n["queued"] == n["running"] == 0)
        counts = site.counts("night")
        assert counts["failed"] >= 5
        assert counts["succeeded"] >= 100
        # And the endpoint reports the sum of both
        wait_until(
            lambda: scrape(port).get("referee_generation_seconds_count") == (counts["succeeded"])
        )
        told = scrape(port)
        assert (told["referee_slots"], told["referee_draining"]) == (8, 1)
        assert told["referee_gate_failures_total"] >= 3 * counts["failed"]
        assert told["referee_attempts_total"] == told["referee_queue_wait_seconds_count"] == 160
        assert told["referee_tokens_total"] == 150 * counts["succeeded"]
        assert told["referee_memory_bytes"] > 2**20
        # And each line of the log is a JSON object with worker and job
        lines = [json.loads(line) for line in site.output("worker").splitlines() if line[:1] == "{"]
        (sick,) = [line for line in lines if line.get("action") == "sick"]
        assert sick["level"] == "ERROR"
        commit = next(line for line in lines if line.get("action") == "commit")
        assert {"time", "action", "job", "attempt", "worker", "gpu", "custom_id"} <= commit.keys()
        assert len({line["worker"] for line in lines if "job" in line}) == 2
    assert scrape(port) == {}


def test_a_worker_that_answers_no_paper_stops_until_it_is_resumed(
    site: Site, tmp_path: Path
) -> None:
    # Given a worker that has completed a review and then fails all papers
    first = write_papers(tmp_path / "first", 1)
    bad = write_papers(tmp_path / "bad", 12, "SCRIPT: poison")
    with workers(site, {}):
        site.run("submit", str(first), "--batch", "first", "--reviewer", "demo-7")
        site.wait_for("first", lambda n: n["succeeded"] == 1)
        site.run("submit", str(bad), "--batch", "bad", "--reviewer", "demo-7")
        # Then it stops before any paper has used up its attempts, and reports why
        (complaint,) = wait_until(lambda: complaints(site))
        assert "5 different papers in a row" in complaint
        assert "the paper cannot be generated" in complaint
        assert complaint in site.run("workers").out
        assert site.counts("bad")["failed"] == 0
        # And reviews again once it is resumed
        site.run("cancel", "bad")
        good = write_papers(tmp_path / "good", 2)
        site.run("submit", str(good), "--batch", "good", "--reviewer", "demo-7")
        site.run("workers", "resume", socket.gethostname())
        site.wait_for("good", lambda n: n["succeeded"] == 2)
        assert complaints(site) == []


def test_a_worker_with_another_template_refuses_the_paper(site: Site, tmp_path: Path) -> None:
    # Given a reviewer whose batch was started with a different chat template
    papers = write_papers(tmp_path / "papers", 1)
    site.run("submit", str(papers), "--batch", "night", "--reviewer", "demo-7")
    with site.database() as database, database.write() as on:
        on.execute(text(f"UPDATE reviewer SET template_sha256 = '{'f' * 64}'"))
    with workers(site, {}):
        # Then the worker reports it and stops, and the paper keeps all its attempts
        (complaint,) = wait_until(lambda: complaints(site))
        assert "demo-7 v1 was begun with other chat template (ffffffffffff)" in complaint
        site.wait_for("night", lambda n: n["queued"] == 1)
        (used,) = json.loads(
            site.run("sql", "SELECT attempt - given_back AS n FROM job", "--format", "json").out
        )
        assert used == {"n": 0}
    # And a worker with that template reviews it
    with site.database() as database, database.write() as on:
        on.execute(text("UPDATE reviewer SET template_sha256 = NULL"))
    with workers(site, {}):
        site.wait_for("night", lambda n: n["succeeded"] == 1)
    with site.database() as database, database.read() as on:
        assert len(on.scalar(text("SELECT template_sha256 FROM reviewer")) or "") == 64
