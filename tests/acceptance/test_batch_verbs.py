"""The batch commands before any worker runs: cancel, retry, pause, resume, purge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.site import FAST, SCRIPTED, Site, write_papers


def submitted(tmp_path: Path) -> Site:
    """A site whose batch "b" waits with two papers; a third could not be read."""
    site = Site(tmp_path / "home", FAST | SCRIPTED)
    papers = write_papers(tmp_path / "papers", 2)
    (papers / "torn.pdf").write_bytes(b"%PDF-1.4 torn")
    done = site.run("submit", str(papers), "--batch", "b", "--reviewer", "demo-7")
    assert done.code == 1, done
    return site


def states(site: Site) -> dict[str, Any]:
    return {line["custom_id"]: line["state"] for line in site.exported("b")}


def test_repaired_files_replace_failed_papers_and_no_others(tmp_path: Path) -> None:
    site = submitted(tmp_path)
    assert "`referee retry b --input DIR`" in site.run("retry", "b").out
    # Given a folder with a repaired file, and one that belongs to a healthy paper
    repaired = tmp_path / "repaired"
    repaired.mkdir()
    (repaired / "torn.txt").write_text("A Mended Paper\n\nAbstract\nWe mend it.\n")
    (repaired / "paper-000.txt").write_text("Another Text\n\nAbstract\nNot asked for.\n")
    # When the batch is retried with it
    done = site.run("retry", "b", "--input", str(repaired), fresh=True)
    # Then the failed paper waits with its new text and the healthy one is as it was
    assert (done.code, done.out) == (
        0,
        "1 papers queued again, 0 still failed.\n"
        "1 files belong to no failed paper of b and were ignored.\n",
    )
    assert states(site) == dict.fromkeys(("paper-000", "paper-001", "torn"), "queued")
    titles = {line["custom_id"]: line["paper"]["title"] for line in site.exported("b")}
    assert (titles["torn"], titles["paper-000"]) == ("A Mended Paper", "A Study of Subject 0")
    assert site.counts("b")["total"] == 3
    # And a file that is still broken stays failed, with its reason
    (repaired / "torn.txt").unlink()
    (repaired / "torn.pdf").write_bytes(b"%PDF-1.4 torn")
    again = site.run("retry", "b", "--input", str(repaired))
    assert again.out.startswith("0 papers queued again, 0 still failed.")


def test_all_batches_pause_and_a_batch_over_is_purged(tmp_path: Path) -> None:
    site = submitted(tmp_path)
    assert site.run("pause", "--all").out == "b paused.\n"
    assert site.json("status", "b")["state"] == "paused"
    assert site.run("resume", "--all").out == "b resumed.\n"
    assert site.run("pause").code == site.run("pause", "b", "--all").code == 2
    # A purge requires a finished batch, and first reports what it would delete
    assert site.run("purge", "b").code == 2
    assert site.run("cancel", "b").code == 0
    told = site.run("purge", "b").out
    assert told.startswith("Would be deleted: the text of 2 papers")
    assert "We study subject 0." in site.run("export", "b", "--format", "openai-input").out
    assert "2 papers in the reading cache" in site.run("purge", "b", "--yes", fresh=True).out
    assert "We study" not in site.run("export", "b", "--format", "openai-input").out
    assert [*states(site).values()] == ["cancelled", "cancelled", "failed"]
    for file in site.home.rglob("*.db*"):
        assert b"We study subject" not in file.read_bytes()


def test_a_passed_deadline_shows_without_any_worker(tmp_path: Path) -> None:
    site = Site(tmp_path / "home", FAST)
    papers = write_papers(tmp_path / "papers", 2)
    command = ("submit", str(papers), "--batch", "b", "--reviewer", "demo-7")
    assert site.run(*command, "--deadline", "0.01s").code == 0
    status = site.json("status", "b")
    assert (status["state"], status["counts"]["expired"]) == ("expired", 2)
    assert set(states(site).values()) == {"expired"}


def test_urgent_batch_runs_before_queued_papers(tmp_path: Path) -> None:
    # Given ten queued papers, and an urgent one submitted last, for two reviews
    site = Site(tmp_path / "home", FAST | SCRIPTED | {"SCRIPTED_SLOTS": "2"})
    papers = write_papers(tmp_path / "papers", 10)
    urgent = write_papers(tmp_path / "urgent", 1, "Urgent.")
    common = ("--reviewer", "demo-7")
    more = (*common, "--priority", "high", "--samples", "2")
    assert site.run("submit", str(papers), "--batch", "many", *common).code == 0
    assert site.run("submit", str(urgent), "--batch", "now", *more).code == 0
    with site.up():
        site.wait_for("many", lambda n: n["succeeded"] == 10)
        # Then both of its jobs started first, and each has a review with its own seed
        query = "SELECT batch_id FROM job ORDER BY started_at LIMIT 2"
        first = json.loads(site.run("sql", query, "--format", "json").out)
        assert [row["batch_id"] for row in first] == [2, 2]
        lines = site.exported("now")
        assert [line["sample"] for line in lines] == [0, 1]
        assert len({line["review"]["seed"] for line in lines}) == 2
        # And new content for the paper replaces its job if requested
        write_papers(urgent, 1, "Corrected.")
        assert site.run("submit", str(urgent), "--batch", "now", *more).code == 2
        done = site.run("submit", str(urgent), "--batch", "now", *more, "--replace", "--wait")
        assert done.code == 0, done
    assert site.counts("now")["succeeded"] == site.counts("now")["total"] == 2
