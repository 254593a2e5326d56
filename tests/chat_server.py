"""An OpenAI-compatible server on loopback with scripted answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: From a request's body to the text that answers it.
Answering = Callable[[dict[str, Any]], str]


class ChatServer(ThreadingHTTPServer):
    """Answers with a function and records the request bodies."""

    daemon_threads = True

    def __init__(self, answer: Answering) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """Base URL, as an endpoint is named."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        message = {"role": "assistant", "content": self.server.answer(body)}
        document = {"choices": [{"message": message, "finish_reason": "stop"}]}
        raw = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Do not log."""


@contextmanager
def serve_chat(answer: Answering) -> Iterator[ChatServer]:
    """Serve until the block ends."""
    with ChatServer(answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def fuller_review_wins(body: dict[str, Any]) -> str:
    """Answer as a judge that counts lines: the longer review wins, equal ones tie."""
    text = body["messages"][-1]["content"]
    first, second = text.split("\n\nReview A\n")[1].split("\n\nReview B\n")
    slot = "Tie" if len(first) == len(second) else "A" if len(first) > len(second) else "B"
    aspects = dict.fromkeys(_aspects(body), slot)
    return json.dumps({"reasoning": "By length.", "aspects": aspects, "verdict": slot})


def _aspects(body: dict[str, Any]) -> list[str]:
    schema = body["response_format"]["json_schema"]["schema"]
    return list(schema["properties"]["aspects"]["required"])
