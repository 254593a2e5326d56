"""API reviewers: an OpenAI-compatible endpoint, through the queue and the cpu worker."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from models.text.aspects import SEVEN
from models.text.parsing import render
from models.text.review import Item
from tests.site import FAST, SCRIPTED, Site, write_papers

REVIEWER = """\
name: local-server
kind: api
aspects: "7"
endpoint: {{url: "http://127.0.0.1:{port}/v1", model: some-model, requests_per_minute: 6000}}
"""


class Endpoint(BaseHTTPRequestHandler):
    """Answers every second request with 503, like an overloaded server."""

    prompts: ClassVar[list[list[dict[str, str]]]] = []
    calls: ClassVar[int] = 0

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Endpoint.calls += 1
        if Endpoint.calls % 2:
            self._send(503, {"error": {"message": "busy"}})
            return
        Endpoint.prompts.append(request["messages"])
        self._send(200, completion())

    def _send(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Do not log."""


def completion() -> dict[str, Any]:
    items = [Item(key, 0, f"On {key}", f"What matters is its {key}.") for key in SEVEN.keys]
    message = {"role": "assistant", "content": render(items, SEVEN)}
    return {
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 120},
    }


@contextmanager
def endpoint() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def test_an_api_reviewer_reviews_through_the_same_queue(tmp_path: Path) -> None:
    site = Site(tmp_path / "home", FAST | SCRIPTED)
    papers = write_papers(tmp_path / "papers", 3)
    with endpoint() as port:
        (tmp_path / "local-server.yaml").write_text(REVIEWER.format(port=port))
        assert site.run("reviewer", "add", str(tmp_path / "local-server.yaml")).code == 0
        with site.up():
            command = ("submit", str(papers), "--batch", "api", "--reviewer", "local-server")
            done = site.run(*command, "--wait")
    assert done.code == 0, done
    status = site.json("status", "api")
    assert (status["prompt_tokens"], status["output_tokens"]) == (2700, 360)
    assert [m["role"] for m in Endpoint.prompts[0]] == ["system", "user"]
    assert Endpoint.prompts[0][0]["content"] == SEVEN.system_prompt


def test_reviews_that_may_cost_too_much_are_refused_before_any_is_stored(tmp_path: Path) -> None:
    site = Site(tmp_path / "home", FAST)
    papers = write_papers(tmp_path / "papers", 2)
    (tmp_path / "local-server.yaml").write_text(REVIEWER.format(port=9))
    assert site.run("reviewer", "add", str(tmp_path / "local-server.yaml")).code == 0
    submit = ("submit", str(papers), "--batch", "dear", "--allow-external")
    # Given what two reviews by GPT-4-1106 cost at most
    found = site.json("submit", str(papers), "--dry-run", "--reviewer", "gpt4-1106-7")
    usd = found["usd_at_most"]
    assert usd > 2 * 1000 * 30 / 1e6
    # When the limit is lower, or the price is unknown
    dear = site.run(*submit, "--reviewer", "gpt4-1106-7", "--max-usd", str(usd - 0.01))
    unknown = site.run(*submit, "--reviewer", "local-server", "--max-usd", "1")
    # Then it is refused in one sentence, and there is no batch
    assert (dear.code, f"may cost up to ${usd:.2f}, over the limit" in dear.err) == (2, True)
    assert (unknown.code, "names no prices" in unknown.err) == (2, True)
    assert site.run("status", "dear").code == 2
    # And a limit equal to the cost is accepted
    assert site.run(*submit, "--reviewer", "gpt4-1106-7", "--max-usd", str(usd)).code == 0
    assert site.json("status", "dear")["counts"]["total"] == 2
