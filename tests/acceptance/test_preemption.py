"""An urgent paper in a full worker, with real worker processes on both databases."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.test_survival import assert_each_reviewed_once, attempts_used
from tests.site import FAST, SCRIPTED, Process, Site, wait_until, write_papers
from worker.preemption import CHECK_SECONDS

WAIT = "SCRIPT: wait"


@dataclass(frozen=True)
class Busy:
    """A site whose one worker has two slots; papers with WAIT end when the gate is open."""

    site: Site
    folder: Path

    def submit(self, batch: str, n: int, priority: str, text: str = WAIT) -> None:
        papers = write_papers(self.folder / batch, n, f"{text}\nFor {batch}.")
        command = ("submit", str(papers), "--batch", batch, "--reviewer", "demo-7")
        done = self.site.run(*command, "--priority", priority)
        assert done.code == 0, done

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    def worker(self, up: Process) -> int:
        (worker,) = self.site.workers_of(up)
        return worker


def busy_site(folder: Path, **more: str) -> Busy:
    gate = {"SCRIPTED_GATE": str(folder / "gate"), "SCRIPTED_SLOTS": "2"}
    return Busy(Site(folder / "home", FAST | SCRIPTED | gate | more), folder)


@pytest.fixture
def busy(empty_url: str, tmp_path: Path) -> Busy:
    busy = busy_site(tmp_path, REFEREE_DATABASE_URL=empty_url)
    assert busy.site.run("db", "upgrade").code == 0
    return busy


def test_an_urgent_paper_starts_at_once_in_a_full_worker(busy: Busy) -> None:
    site = busy.site
    with site.up():
        busy.submit("low", 3, "low")
        site.wait_for("low", lambda n: n["running"] == 2)
        # When an urgent paper comes, it is reviewed although none of the others ends
        busy.submit("urgent", 1, "high", text="")
        site.wait_for("urgent", lambda n: n["succeeded"] == 1)
        assert site.counts("low")["succeeded"] == 0
        assert site.events("preempted") == 1
        assert attempts_used(site, "low") == {0, 1}
        # And nothing is lost or reviewed twice
        busy.open_gate()
        site.wait_for("low", lambda n: n["succeeded"] == 3)
    assert_each_reviewed_once(site, "low", 3)
    assert_each_reviewed_once(site, "urgent", 1)
    assert attempts_used(site, "low") == {1}
    assert site.events("preempted") == 1


def test_a_worker_killed_after_a_preemption_loses_nothing(busy: Busy) -> None:
    site = busy.site
    with site.up() as up:
        busy.submit("normal", 3, "normal")
        site.wait_for("normal", lambda n: n["running"] == 2)
        busy.submit("urgent", 1, "high")
        wait_until(lambda: site.events("preempted") == 1)
        killed = busy.worker(up)
        os.kill(killed, signal.SIGKILL)
        busy.open_gate()
        site.wait_for("normal", lambda n: n["succeeded"] == 3, 90)
        site.wait_for("urgent", lambda n: n["succeeded"] == 1)
        assert busy.worker(up) != killed
    assert_each_reviewed_once(site, "normal", 3)
    assert_each_reviewed_once(site, "urgent", 1)


def test_preemption_can_be_turned_off(tmp_path: Path) -> None:
    busy = busy_site(tmp_path, REFEREE_PREEMPTION="false")
    with busy.site.up():
        busy.submit("low", 2, "low")
        busy.site.wait_for("low", lambda n: n["running"] == 2)
        busy.submit("urgent", 1, "high", text="")
        begun = time.monotonic()
        wait_until(lambda: time.monotonic() - begun > 2 * CHECK_SECONDS)
        assert busy.site.counts("urgent")["queued"] == 1
        busy.open_gate()
        busy.site.wait_for("urgent", lambda n: n["succeeded"] == 1)
    assert busy.site.events("preempted") == 0
