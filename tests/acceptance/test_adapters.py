"""Adapters are fetched by a machine with an empty home and the URLs of broker and database."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from models.text import reviewer as configurations
from testing.servers import Valkey
from testing.small_models import write_tiny_llama
from tests.adapters import write_adapter
from tests.conftest import PostgresServer
from tests.site import FAST, Site, write_papers


@pytest.fixture
def urls(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[dict[str, str]]:
    broker = Valkey(tmp_path / "valkey")
    url = postgres_server.create("adapters")
    yield {"REFEREE_BROKER_URL": broker.url, "REFEREE_DATABASE_URL": url}
    broker.stop()
    postgres_server.drop("adapters")


def reviewer_file(folder: Path, base_folder: Path) -> Path:
    """A 4-aspect reviewer of the tiny model with short prompts and answers."""
    shipped = yaml.safe_load(configurations.builtin()["llama31-4"].read_text())
    base = {"name": "tiny-llama", "hub": str(base_folder), "revision": "x", "max_context": 2048}
    limits = {"max_prompt_tokens": 1200, "max_new_tokens": 300}
    changes = {"base": base, "template": "llama3", **limits, "gate": {"fatal": ["headings"]}}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**shipped, "name": "tiny-4", **changes}))
    return path


@pytest.mark.timeout(240)
def test_a_new_adapter_reaches_a_machine_that_has_nothing_but_two_urls(
    urls: dict[str, str], tmp_path: Path
) -> None:
    # Given a database on another machine, with two adapters that were trained there
    desk = Site(tmp_path / "desk", urls)
    base_folder = write_tiny_llama(tmp_path / "base", "llama31")
    assert desk.run("db", "upgrade").code == 0
    assert desk.run("reviewer", "add", str(reviewer_file(tmp_path, base_folder))).code == 0
    sha256s = []
    for seed in range(2):
        folder = write_adapter(base_folder, tmp_path / f"adapter{seed}", "tiny-llama", seed)
        done = desk.run("adapter", "register", str(folder))
        assert done.code == 0, done
        sha256s.append(done.out.split()[0])
    # And a worker whose home is empty
    host = Site(tmp_path / "host", FAST | urls | {"REFEREE_TORCH_THREADS": "1"})
    worker = host.start("worker", "--reviewer", "tiny-4")
    try:
        # When a batch is submitted with the first, and the second is promoted meanwhile
        command = ("--reviewer", "tiny-4", "--batch")
        papers = write_papers(tmp_path / "papers", 1)
        for number, sha256 in enumerate(sha256s):
            assert desk.run("adapter", "promote", sha256[:10], "--reviewer", "tiny-4").code == 0
            assert desk.run("submit", str(papers), *command, f"b{number}").code == 0
        desk.wait_for("b1", lambda n: n["succeeded"] == 1, 120)
        assert worker.poll() is None
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=60)
    # Then each batch has the adapter that was promoted when it was submitted
    for number, sha256 in enumerate(sha256s):
        used = {line["review"]["adapter_sha256"] for line in desk.exported(f"b{number}")}
        assert used == {sha256}
    assert (tmp_path / "host" / "adapters" / sha256s[0]).is_dir()
    # And the registry says which is in use
    listed = desk.json("adapter", "list")
    assert [line["state"] for line in listed] == ["registered", "promoted"]
    back = desk.run("adapter", "promote", "--rollback", "--reviewer", "tiny-4")
    assert f"in force, with {sha256s[0][:12]}" in back.out
    assert desk.run("adapter", "promote", "--reviewer", "tiny-4").code == 2
