"""Survival on PostgreSQL, with workers as on several machines."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PostgresServer
from tests.site import FAST, SCRIPTED, Site, write_papers


@pytest.fixture
def site(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    url = postgres_server.create("night")
    yield Site(tmp_path / "home", FAST | SCRIPTED | {"REFEREE_DATABASE_URL": url})
    postgres_server.drop("night")


def test_a_killed_worker_loses_nothing_on_postgresql(site: Site, tmp_path: Path) -> None:
    site.environment["SCRIPTED_GATE"] = str(tmp_path / "gate")
    papers = write_papers(tmp_path / "papers", 8, "SCRIPT: wait")
    assert site.run("db", "upgrade").code == 0
    with site.up() as up:
        command = ("submit", str(papers), "--batch", "night", "--reviewer", "demo-7")
        assert site.run(*command).code == 0
        site.wait_for("night", lambda n: n["running"])
        os.kill(site.workers_of(up)[0], signal.SIGKILL)
        (tmp_path / "gate").touch()
        site.wait_for("night", lambda n: n["succeeded"] == 8)
    lines = site.exported("night")
    assert len({line["review"]["id"] for line in lines}) == 8
    assert site.run("sql", "DELETE FROM review").code == 2


def test_a_database_that_was_never_upgraded_is_refused_with_what_to_do(site: Site) -> None:
    done = site.run("status")
    assert done.code == 3
    assert "referee db upgrade" in done.err
