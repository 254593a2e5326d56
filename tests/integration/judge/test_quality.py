"""`judge.validate rotten` with a judge behind a real HTTP server on loopback."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from judge.validate import validate
from tests.unit.judge.test_validation import write


class _Judge(BaseHTTPRequestHandler):
    """Prefers the review with the higher number in it, but for papers it has trouble with."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = body["messages"][-1]["content"]
        document = {
            "choices": [{"message": {"content": self.verdict(asked)}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 9},
        }
        payload = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def verdict(self, asked: str) -> str:
        if "Garbled" in asked:
            return 'The verdict is "A", or rather A and B.'
        first, second = (int(number) for number in re.findall(r"quality (\d+)", asked))
        better = "A" if first > second or "First wins" in asked else "B"
        return json.dumps({"reasoning": "as told", "verdict": better})

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A judge's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Judge)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def review(title: str, paper: int, quality: int) -> dict[str, Any]:
    return {
        "paper_id": paper,
        "title": title,
        "abstract": "An abstract.",
        "review_text": f"Of quality {quality}.",
        "Human_Overall_Quality": quality,
    }


def test_judges_verdicts_are_compared_with_human_ratings(endpoint: str, tmp_path: Path) -> None:
    # Given pairs that the judge tells rightly, one it answers by position, one it garbles
    titles = ("Plain", "Plain", "Plain", "First wins", "Garbled")
    rows = [review(t, i, q) for i, t in enumerate(titles) for q in ((20, 70), (90, 40))[i % 2]]
    file = write(tmp_path / "rotten.jsonl", rows)
    # When both orders of each are asked for over HTTP
    arguments = ["rotten", str(file), "--endpoint", endpoint, "--model", "tiny", "--json"]
    done = CliRunner().invoke(validate, arguments, catch_exceptions=False)
    # Then the one is a tie and inconsistent, the other invalid and not counted as anything else
    found = json.loads(done.stdout)
    assert (found["n"], found["invalid"]) == (4, 1)
    assert found["auc"] == found["accuracy"] == pytest.approx(3.5 / 4)
    assert found["decided"] == 1
    assert found["consistent"] == pytest.approx(3 / 4)
    assert found["kappa"] == pytest.approx(1)
