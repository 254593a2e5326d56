"""`referee bench` on the CPU, with a tiny model and by the real program."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from db import worker_nodes
from db.session import open_database
from models.text import reviewer as configurations
from testing.small_models import write_tiny_llama
from tests.acceptance.test_adapters import reviewer_file
from tests.site import FAST, Site


@pytest.mark.timeout(240)
def test_bench_measures_this_machine(tmp_path: Path) -> None:
    # Given a reviewer of a tiny model
    site = Site(tmp_path / "home", FAST | {"REFEREE_TORCH_THREADS": "1"})
    base = write_tiny_llama(tmp_path / "base", "llama31")
    assert site.run("reviewer", "add", str(reviewer_file(tmp_path, base))).code == 0
    # When the machine is measured
    done = site.run("bench", "--reviewer", "tiny-4", "--seconds", "2", "--json", timeout=200)
    # Then one document says what was measured on what, and progress went to the other stream
    assert done.code == 0, done
    found = json.loads(done.out)
    assert found["papers"] >= 2
    assert found["papers_per_hour"] > 0
    assert (found["base"], found["weights"]) == ("tiny-llama", "tiny-llama")
    assert (found["slots"], found["attention"], found["arithmetic"]) == (4, "sdpa", "exact")
    assert found["adapter"] == "random weights, rank 16"
    # A CPU reads short papers, which must not pass for a conference's
    assert (found["short_papers"], found["mean_prompt_tokens"]) == (True, 512)
    assert found["answer_tokens"] == 64
    assert found["of_limit"] is None
    assert "starting the engine" in done.err
    # And nothing is left of the adapter that was written for it
    assert not any((site.home / "cache").glob("tmp*"))


def test_bench_says_what_is_missing(tmp_path: Path) -> None:
    site = Site(tmp_path / "home", FAST)
    done = site.run("bench", "--reviewer", "llama31-7")
    assert done.code == 3
    assert "model llama31-8b is not on this machine" in done.err
    api = next(name for name in configurations.builtin() if name.startswith("gpt4"))
    done = site.run("bench", "--reviewer", api)
    assert done.code == 2
    assert "has no local model to measure" in done.err


def test_bench_does_not_disturb_a_running_worker(tmp_path: Path) -> None:
    site = Site(tmp_path / "home", FAST)
    base = write_tiny_llama(tmp_path / "base", "llama31")
    assert site.run("reviewer", "add", str(reviewer_file(tmp_path, base))).code == 0
    database = open_database(f"sqlite:///{site.home / 'referee.db'}")
    worker_nodes.register_worker(
        database,
        name="tiny-llama@here",
        host=socket.gethostname(),
        pid=1,
        gpu="0",
        queues=["reviews.tiny-llama"],
        base="tiny-llama",
        slots=4,
        code_version="1",
    )
    database.close()
    done = site.run("bench", "--reviewer", "tiny-4")
    assert done.code == 2
    assert "is running on this machine: stop it first" in done.err
