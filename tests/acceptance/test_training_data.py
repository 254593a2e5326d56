"""Training data through the real command line: from papers with reviews to a data set."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from models.text.aspects import FOUR
from models.text.merging_prompt import merging_prompt
from models.text.parsing import is_strict, render
from models.text.review import Item
from testing.small_models import small_model_folder
from tests.site import FAST, SCRIPTED, Site
from trainer.data.dataset import read

SUBJECTS = ("pruning", "parsing", "planning", "tracking", "ranking", "sorting")
MERGER = """\
name: local-merger
kind: merged
aspects: "4"
endpoint:
  url: "http://127.0.0.1:{port}/v1"
  model: some-model
  requests_per_minute: 6000
  timeout_s: 1.5
  usd_per_million_input: 10.0
  usd_per_million_output: 30.0
gate:
  fatal: [headings, not_all_empty, loop, refusal, language, complete, grounded]
"""


def write_source(folder: Path) -> Path:
    """Six papers with a decision and two reviews each, which end in a late paragraph."""
    folder.mkdir()
    papers: list[dict[str, object]] = []
    reviews: list[dict[str, object]] = []
    for number, subject in enumerate(SUBJECTS):
        body = " ".join(f"{subject} step {n} is studied here." for n in range(60 + number))
        papers.append({"id": f"p{number}", "title": f"On {subject}", "text": body, "venue": "V"})
        for reviewer in ("one", "two"):
            text = (
                f"The idea of {subject} is novel and reviewer {reviewer} finds the paper clearly "
                f"written. However, the baselines for {subject} are weak and outdated by years. "
                "Could the authors report the run time of their method on larger problems?"
                "\n\nThe proofs are careful.\n\nUPDATE: after the rebuttal I raised my score."
            )
            reviews.append({"paper_id": f"p{number}", "comments": text, "rating": "6: weak accept"})
        decision = "Accept" if number % 2 else "Reject"
        reviews.append({"paper_id": f"p{number}", "is_meta": True, "decision": decision})
    for name, rows in (("papers", papers), ("reviews", reviews)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path / "home", FAST | SCRIPTED)
    (site.home / "models").mkdir(parents=True)
    (site.home / "models" / "smollm2-135m").symlink_to(small_model_folder())
    source = write_source(tmp_path / "spring")
    assert site.json("data", "import", str(source), "--licence", "CC BY 4.0")["new_papers"] == 6
    return site


def test_from_reviews_to_a_data_set_and_again_without_any_change(
    site: Site, tmp_path: Path
) -> None:
    again = site.json("data", "import", str(tmp_path / "spring"))
    assert (again["new_papers"], again["new_reviews"]) == (0, 0)

    early = site.run("data", "merge")
    assert (early.code, "referee data clean" in early.err) == (2, True)

    rules = ("--short-percentile", "0", "--long-percentile", "100")
    cleaned = site.json("data", "clean", *rules)
    assert cleaned["rules"]["meta_review"] == 6
    assert cleaned["rules"]["late_paragraph"] == 12
    assert cleaned["sources"][0]["papers_kept"] == 6

    first, second = (site.json("data", "merge") for _ in range(2))
    assert [each["new"] for each in first] == [6, 6]
    assert [(each["new"], each["known"]) for each in second] == [(0, 6), (0, 6)]

    sets = tmp_path / "sets"
    shares = ("--validation-share", "0.3", "--test-share", "0.3")
    for name in ("a", "b"):
        built = site.run(
            *("data", "build", str(sets / name), "--reviewer", "demo-4", *shares),
            fresh=name == "a",
        )
        assert built.code == 0, built
    found = read(sets / "a")
    assert (len(found.train), len(found.validation), len(found.test)) == (2, 2, 2)
    assert found.card.sha256 == read(sets / "b").card.sha256
    assert found.card.sources[0].licence == "CC BY 4.0"
    pairs = (*found.train, *found.validation, *found.test)
    assert all(is_strict(pair.review, FOUR) and "rebuttal" not in pair.review for pair in pairs)
    refused = site.run("data", "build", str(sets / "a"), "--reviewer", "demo-4")
    assert (refused.code, "--replace" in refused.err) == (2, True)

    plot = tmp_path / "stats.svg"
    assert "late_paragraph" in site.run("data", "stats", "--plot", str(plot)).out
    assert plot.read_text().startswith("<svg")


class Endpoint(BaseHTTPRequestHandler):
    """Fails the first attempts at each paper in different ways, then returns a merged review."""

    lock: ClassVar[threading.Lock] = threading.Lock()
    tries: ClassVar[dict[str, int]] = {}
    inputs: ClassVar[dict[str, str]] = {}
    systems: ClassVar[set[str]] = set()
    faults: ClassVar[dict[str, list[str]]] = {
        "pruning": ["429", "429"],
        "parsing": ["500"],
        "planning": ["hang"],
        "tracking": ["truncated"],
        "ranking": ["half"],
        "sorting": ["invented"],
    }

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        system, user = (message["content"] for message in request["messages"])
        match = re.match(r"Paper: On (\w+)", user)
        assert match is not None, user
        subject = match[1]
        with self.lock:
            self.systems.add(system)
            self.inputs[subject] = user
            number = self.tries[subject] = self.tries.get(subject, 0) + 1
        faults = self.faults[subject]
        self._answer(subject, faults[number - 1] if number <= len(faults) else "good")

    def _answer(self, subject: str, kind: str) -> None:
        good = answer(f"The idea of {subject} is novel.")
        match kind:
            case "429":
                self._send(429, {"error": {"message": "slow down"}}, retry_after="0.1")
            case "500":
                self._send(500, {"error": {"message": "broken"}})
            case "hang":
                time.sleep(3)  # longer than the client waits
                self._send(200, completion(good))
            case "truncated":
                self._send(200, completion(good[: len(good) * 2 // 3], "length"))
            case "half":
                self._send(200, completion(good.rstrip() + " and the", "length"))
            case "invented":
                text = "Quantum annealers surpass photonic chips regarding galactic navigation."
                self._send(200, completion(answer(text)))
            case _:
                self._send(200, completion(good))

    def _send(self, status: int, document: Any, retry_after: str | None = None) -> None:
        body = json.dumps(document).encode()
        try:
            self.send_response(status)
            if retry_after is not None:
                self.send_header("Retry-After", retry_after)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has waited long enough

    def log_message(self, *_: Any) -> None:
        """Do not log."""


def answer(text: str) -> str:
    """A merged review with one item; the other aspects are empty."""
    return render([Item("suggestions", 0, "On it", text)], FOUR)


def completion(text: str, finish: str = "stop") -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}


@contextmanager
def endpoint() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_with_every_fault_merges_each_paper_once_and_is_paid_once(
    site: Site, tmp_path: Path
) -> None:
    rules = ("--short-percentile", "0", "--long-percentile", "100")
    assert site.run("data", "clean", *rules).code == 0
    refused = site.run("data", "merge", "--engine", "api")
    assert (refused.code, "--allow-external" in refused.err) == (2, True)

    merge = ("data", "merge", "--engine", "api", "--reviewer", "local-merger")
    with endpoint() as port:
        (tmp_path / "merger.yaml").write_text(MERGER.format(port=port))
        assert site.run("reviewer", "add", str(tmp_path / "merger.yaml")).code == 0

        planned = site.json(*merge, "--dry-run")
        assert (planned["papers"], planned["cached"], Endpoint.tries) == (6, 0, {})
        assert planned["estimate"]["usd"] > 0.2

        with site.up():
            done = site.json(*merge, "--wait")
            asked = sum(Endpoint.tries.values())
            again = site.json(*merge, "--wait")

    assert done["counts"]["succeeded"] == 6
    assert done["spent"] == {
        "n_prompt_tokens": 6000,
        "n_output_tokens": 600,
        "usd": pytest.approx(0.078),
    }
    assert asked == sum(len(faults) + 1 for faults in Endpoint.faults.values())
    assert (again["papers"], again["cached"]) == (0, 6)
    assert sum(Endpoint.tries.values()) == asked
    assert Endpoint.systems == {merging_prompt(FOUR)}
    assert all(text.count("=== Review") == 2 for text in Endpoint.inputs.values())
    assert not any("UPDATE" in text for text in Endpoint.inputs.values())
    assert site.events("rejected") == 3  # truncated, cut off in the last item, invented

    built = site.run(
        *("data", "build", str(tmp_path / "set"), "--reviewer", "demo-4"),
        *("--merged", "local-merger"),
    )
    assert built.code == 0, built
    found = read(tmp_path / "set")
    assert found.card.reviewer == "local-merger v1"
    assert "is novel." in found.train[0].review
