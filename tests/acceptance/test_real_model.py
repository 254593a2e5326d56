"""End to end with the real small model: CLI, Valkey, Celery worker, NF4 model, database."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.text.aspects import SEVEN
from models.text.parsing import is_strict
from testing import ROOT
from testing.small_models import small_model_folder
from tests.site import Process, Site

ABSTRACTS = {
    "graphs": "We study message passing on sparse graphs and show that depth hurts accuracy.",
    "speech": "A recogniser trained on read speech fails on dialogue; we adapt it with few labels.",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Process]]:
    """`referee up` with demo-7, whose answers are as short as seven aspects can be, to save
    minutes; loaded once, since the second test ends it."""
    folder = tmp_path_factory.mktemp("real")
    site = Site(folder / "home", {"REFEREE_DRAIN_SECONDS": "0.5"})
    (site.home / "models").mkdir(parents=True)
    (site.home / "models" / "smollm2-135m").symlink_to(small_model_folder())
    brief = folder / "brief.yaml"
    shipped = (ROOT / "configs" / "reviewers" / "demo-7.yaml").read_text()
    brief.write_text(
        shipped.replace("name: demo-7", "name: brief").replace("_tokens: 512", "_tokens: 132")
    )
    assert site.run("reviewer", "add", str(brief)).code == 0
    with site.up("brief") as up:
        yield site, up


@pytest.mark.timeout(600)
def test_papers_get_strict_suppressed_seven_aspect_reviews_from_a_4_bit_model(
    running: tuple[Site, Process], tmp_path: Path
) -> None:
    # Given papers in the recipe's JSONL
    site, _ = running
    file = tmp_path / "papers.jsonl"
    papers = [{"id": k, "title": k, "abstract": a, "text": a} for k, a in ABSTRACTS.items()]
    file.write_text("".join(json.dumps(paper) + "\n" for paper in papers))
    command = ("submit", str(file), "--batch", "real", "--reviewer", "brief", "--wait")
    done = site.run(*command, timeout=500, fresh=True)
    # Then each has a review that parses strictly, with all seven aspects and what wrote it
    assert done.code == 0, done
    lines = site.exported("real")
    assert len(lines) == len(ABSTRACTS)
    for line in lines:
        review = line["review"]
        assert is_strict(review["raw"], SEVEN)
        covered = {item["aspect"] for item in review["items"]} | set(review["empty_aspects"])
        assert covered == set(SEVEN.keys)
        assert review["versions"]["weights"] == "nf4"
        assert len(review["versions"]["weights_sha256"]) == 64
        assert review["n_prompt_tokens"] > 200
        assert review["n_output_tokens"] <= 132
    # And `referee workers` names the attention that it was computed with
    attention = lines[0]["review"]["versions"]["attention"]
    assert [node["attention"] for node in site.json("workers")] == [None, attention]
    assert f"slots busy, attention {attention}, active" in site.run("workers").out


@pytest.mark.timeout(300)
def test_sigterm_stops_a_running_paper_and_queues_it_again(
    running: tuple[Site, Process], tmp_path: Path
) -> None:
    # Given a running paper, and a drain time shorter than its review
    site, up = running
    paper = tmp_path / "long.txt"
    paper.write_text("A Long Paper\n\n" + "It goes on and on. " * 40)
    site.run("submit", str(paper), "--batch", "b", "--reviewer", "brief")
    site.wait_for("b", lambda n: n["running"])
    # When all processes are stopped
    up.send_signal(signal.SIGTERM)
    assert up.wait(timeout=90) == 0
    # Then it is queued again with all its attempts
    assert site.counts("b")["queued"] == 1
    query = "SELECT attempt - given_back AS used FROM job WHERE state = 'queued'"
    assert json.loads(site.run("sql", query, "--format", "json").out) == [{"used": 0}]
