"""The API engine against a real HTTP server on loopback that answers with real servers' errors."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from errors import EngineLost, RequestRefused, RetryLater, UserError
from models.engines.api import ApiEngine, endpoint_allowed
from models.text.aspects import FOUR
from models.text.generation import GenerationRequest, Suppression
from models.text.reviewer import Endpoint
from testing.generation_requests import chat

#: Seconds after which a test that waits has failed.
DEADLINE_S = 20.0

REQUEST = GenerationRequest(
    id="r1",
    messages=chat(FOUR.system_prompt, "[TITLE]\nA paper"),
    form=FOUR,
    max_prompt_tokens=11_138,
    max_new_tokens=1_150,
    seed=7,
    guided=False,
)


@dataclass
class ServerReply:
    """What the server does with one request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    #: Called before anything is sent.
    first: Callable[[], object] = lambda: None
    #: Close the connection without an answer.
    hang_up: bool = False
    #: Send one byte at a time until the client has gone.
    drip: bool = False


def completion(text: str | None, finish_reason: str = "stop") -> ServerReply:
    document = {
        "model": "gpt-4-1106-preview",
        "system_fingerprint": "fp_1",
        "choices": [{"message": {"content": text}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 812, "completion_tokens": 34},
    }
    return ServerReply(body=json.dumps(document).encode())


def failure(status: int, sentence: str, **headers: str) -> ServerReply:
    body = json.dumps({"error": {"message": sentence}}).encode()
    return ServerReply(
        status, body, {name.replace("_", "-"): text for name, text in headers.items()}
    )


GOOD = completion("[Significance and novelty]\n<New> It is new.\n")


class Server(ThreadingHTTPServer):
    """Gives the scripted answers in turn, the last one for ever; keeps what it was sent."""

    daemon_threads = True

    def __init__(self, *answers: ServerReply) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.at: list[float] = []
        self.lock = threading.Lock()
        self.busy = self.most_busy = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of these tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            n_before = len(self.server.requests)
            self.server.requests.append((self.path, dict(self.headers), body))
            self.server.at.append(time.monotonic())
            self.server.busy += 1
            self.server.most_busy = max(self.server.most_busy, self.server.busy)
        answer = self.server.answers[min(n_before, len(self.server.answers) - 1)]
        answer.first()
        with self.server.lock:
            self.server.busy -= 1
        if not answer.hang_up:
            self._send(answer)

    def _send(self, answer: ServerReply) -> None:
        self.send_response(answer.status)
        headers = {"Content-Length": str(len(answer.body))} | answer.headers
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        if answer.drip:
            pause = threading.Event()
            for byte in answer.body:
                self.wfile.write(bytes([byte]))
                pause.wait(0.05)
        else:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Do not log."""


@contextmanager
def serving(*answers: ServerReply) -> Iterator[Server]:
    with Server(*answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def engine_for(server: Server, **changes: Any) -> Iterator[ApiEngine]:
    endpoint = Endpoint(
        url=server.url, model="gpt-4-1106-preview", requests_per_minute=60_000, timeout_s=10.0
    )
    engine = ApiEngine(replace(endpoint, **changes), api_key="secret", backoff_s=0.01)
    try:
        yield engine
    finally:
        engine.close()


def refusal_kind(error: BaseException | None) -> str:
    assert isinstance(error, RequestRefused)
    return error.kind


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        pause.wait(0.01)


def test_answer_becomes_a_generation() -> None:
    with serving(GOOD) as server, engine_for(server) as engine:
        generation = engine.submit(REQUEST).result(DEADLINE_S)

        assert generation.text.startswith("[Significance and novelty]\n")
        assert (generation.finish, generation.truncated_tokens) == ("stop", 0)
        assert (generation.n_prompt_tokens, generation.n_output_tokens) == (812, 34)
        assert generation.seconds_generating > 0
        assert engine.versions["fingerprint"] == "fp_1"
        assert engine.slots == 4


def test_request_contains_only_prompt_and_sampling() -> None:
    with serving(GOOD) as server, engine_for(server) as engine:
        engine.submit(REQUEST).result(DEADLINE_S)

    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert body == {
        "model": "gpt-4-1106-preview",
        "messages": [
            {"role": "system", "content": FOUR.system_prompt},
            {"role": "user", "content": "[TITLE]\nA paper"},
        ],
        "temperature": 0.35,
        "top_p": 0.9,
        "max_tokens": 1_150,
        "seed": 7,
    }


def test_answer_cut_by_the_server_is_recorded_as_length() -> None:
    with serving(completion("[Signif", "length")) as server, engine_for(server) as engine:
        assert engine.submit(REQUEST).result(DEADLINE_S).finish == "length"


@pytest.mark.parametrize(
    "bad",
    [
        failure(429, "slow down"),
        failure(500, "oops"),
        failure(503, "overloaded"),
        ServerReply(502, b"<html>bad gateway</html>"),
        ServerReply(body=GOOD.body[:60]),
        ServerReply(body=GOOD.body[:60], headers={"Content-Length": str(len(GOOD.body))}),
        ServerReply(body=b"[]"),
        ServerReply(body=b'{"choices": []}'),
        ServerReply(hang_up=True),
    ],
    ids=["429", "500", "503", "html", "half json", "half body", "list", "no choice", "hang up"],
)
def test_passing_failure_is_tried_again(bad: ServerReply) -> None:
    with serving(bad, bad, GOOD) as server, engine_for(server) as engine:
        assert engine.submit(REQUEST).result(DEADLINE_S).finish == "stop"

    assert len(server.requests) == 3


def test_persistent_failure_returns_to_the_queue_with_the_servers_message() -> None:
    with serving(failure(500, "the model is loading")) as server, engine_for(server) as engine:
        error = engine.submit(REQUEST).exception(DEADLINE_S)

    assert type(error) is RetryLater
    assert "the model is loading" in str(error)
    assert len(server.requests) == 5


def test_job_returns_to_the_queue_when_the_server_is_unreachable() -> None:
    with serving(GOOD) as server:
        url = server.url
    engine = ApiEngine(
        Endpoint(url=url, model="m", requests_per_minute=60_000, timeout_s=2.0), backoff_s=0.01
    )

    assert isinstance(engine.submit(REQUEST).exception(DEADLINE_S), RetryLater)
    engine.close()


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_retry_after_a_minute_when_a_known_server_is_unavailable(code: int) -> None:
    away = [failure(code, "be right back")] * 5
    with serving(*away, GOOD, *away) as server, engine_for(server) as engine:
        never_answered = engine.submit(REQUEST).exception(DEADLINE_S)
        engine.submit(REQUEST).result(DEADLINE_S)
        away_now = engine.submit(REQUEST).exception(DEADLINE_S)

    assert isinstance(never_answered, RetryLater)
    assert isinstance(away_now, RetryLater)
    assert (never_answered.wait_s, away_now.wait_s) == (0.0, 60.0)


def test_retry_after_a_minute_when_a_known_server_is_gone() -> None:
    with serving(GOOD) as server, engine_for(server) as engine:
        engine.submit(REQUEST).result(DEADLINE_S)
        server.shutdown()
        server.server_close()
        gone = engine.submit(REQUEST).exception(DEADLINE_S)

    assert isinstance(gone, RetryLater)
    assert gone.wait_s == 60.0


def test_retry_after_is_honoured() -> None:
    with (
        serving(failure(429, "slow down", Retry_After="0.4"), GOOD) as server,
        engine_for(server) as engine,
    ):
        engine.submit(REQUEST).result(DEADLINE_S)

    assert server.at[1] - server.at[0] >= 0.4


@pytest.mark.parametrize(
    "when", ["3600", formatdate(time.time() + 3600, usegmt=True)], ids=["seconds", "date"]
)
def test_long_retry_after_is_left_to_the_queue(when: str) -> None:
    with (
        serving(failure(429, "quota used up", Retry_After=when)) as server,
        engine_for(server) as engine,
    ):
        error = engine.submit(REQUEST).exception(DEADLINE_S)

    assert type(error) is RetryLater
    assert "quota used up" in str(error)
    assert len(server.requests) == 1
    # A date is named when the tests are collected, long before this one may run
    assert 1800 < error.wait_s <= 3600


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "bad_request"), (401, "unauthorised"), (403, "forbidden"), (404, "not_found")],
)
def test_refusal_is_final_and_keeps_the_servers_sentence(status: int, kind: str) -> None:
    with (
        serving(failure(status, "maximum context length is 8192")) as server,
        engine_for(server) as engine,
    ):
        error = engine.submit(REQUEST).exception(DEADLINE_S)

    assert refusal_kind(error) == kind
    assert "maximum context length is 8192" in str(error)
    assert len(server.requests) == 1


def test_content_filter_is_final() -> None:
    with serving(completion("", "content_filter")) as server, engine_for(server) as engine:
        error = engine.submit(REQUEST).exception(DEADLINE_S)

    assert refusal_kind(error) == "content_filter"


def answer(choice: dict[str, Any], **more: Any) -> ServerReply:
    return ServerReply(body=json.dumps({"choices": [choice], **more}).encode())


@pytest.mark.parametrize(
    "content",
    ["whole", [{"type": "text", "text": "wh"}, {"type": "output_text", "text": "ole"}]],
    ids=["string", "parts"],
)
@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 10**30, "completion_tokens": -5},
        {"prompt_tokens": 2**31, "completion_tokens": None},
        {"prompt_tokens": "many", "completion_tokens": [7]},
        {"prompt_tokens": True, "completion_tokens": float("inf")},
        {"prompt_tokens": float("nan")},
        None,
    ],
)
def test_wrong_token_count_loses_no_answer(content: Any, usage: Any) -> None:
    reply = answer({"message": {"content": content}, "finish_reason": "stop"}, usage=usage)
    with serving(reply) as server, engine_for(server) as engine:
        generation = engine.submit(REQUEST).result(DEADLINE_S)

    assert generation.text == "whole"
    assert (generation.n_prompt_tokens, generation.n_output_tokens) == (0, 0)


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "refusal": "I cannot review this."},
        {"content": [{"type": "refusal", "refusal": "I cannot review this."}]},
    ],
    ids=["field", "part"],
)
def test_refusal_is_final_and_keeps_its_reason(message: Any) -> None:
    with (
        serving(answer({"message": message, "finish_reason": "stop"})) as server,
        engine_for(server) as engine,
    ):
        error = engine.submit(REQUEST).exception(DEADLINE_S)

    assert refusal_kind(error) == "refusal"
    assert "I cannot review this." in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no such model"}},
        {"error": "no such model"},
        {"message": "no such model", "type": "NotFoundError", "code": 400},
        {"detail": "no such model"},
        {"detail": [{"loc": ["body", "model"], "msg": "no such model"}]},
        [{"error": {"message": "no such model"}}],
    ],
    ids=["openai", "string", "vllm", "fastapi", "fastapi list", "list"],
)
def test_error_of_any_server_gives_its_sentence(body: Any) -> None:
    reply = ServerReply(400, json.dumps(body).encode())
    with serving(reply) as server, engine_for(server) as engine:
        error = engine.submit(REQUEST).exception(DEADLINE_S)

    assert str(error) == "the server refused: 400 no such model"


@pytest.mark.parametrize("status", [400, 500])
def test_error_is_bounded_and_does_not_quote_the_paper(status: int) -> None:
    paper = "A singular account of wet basalt under lamps. " * 40
    request = replace(REQUEST, messages=chat(FOUR.system_prompt, f"[TITLE]\n{paper}"))
    for sentence in (f"cannot read {paper}", "A" * 3_000_000):
        with (
            serving(failure(status, sentence)) as server,
            engine_for(server) as engine,
        ):
            error = engine.submit(request).exception(DEADLINE_S)

        assert "basalt" not in str(error)
        assert len(str(error)) < 350


def test_answer_without_end_is_refused_at_a_bound() -> None:
    reply = completion("A" * 3_000_000)
    with serving(reply) as server, engine_for(server) as engine:
        error = engine.submit(REQUEST).exception(DEADLINE_S)

    assert refusal_kind(error) == "too_long"
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"[" * 200_000, b"1" * 10_000, b"null", b'{"choices": [7]}'])
def test_any_json_is_read_without_a_crash(body: bytes) -> None:
    with serving(ServerReply(body=body)) as server, engine_for(server) as engine:
        error = engine.submit(REQUEST).exception(DEADLINE_S)

    assert type(error) is RetryLater
    assert "not a chat completion" in str(error)


def test_password_of_a_url_is_not_stored_with_reviews() -> None:
    with serving(GOOD) as server:
        url = server.url.replace("http://", "http://me:hushhush@")
        with engine_for(server, url=url) as engine:
            assert "hushhush" not in str(engine.versions)


@pytest.mark.parametrize("text", ["", " \n", None])
def test_empty_answer_goes_back_to_the_queue_without_being_paid_twice(text: str | None) -> None:
    with serving(completion(text)) as server, engine_for(server) as engine:
        assert type(engine.submit(REQUEST).exception(DEADLINE_S)) is RetryLater

    assert len(server.requests) == 1


@pytest.mark.parametrize("drip", [False, True], ids=["silent", "dripping"])
def test_slow_answer_is_given_up_and_asked_again(drip: bool) -> None:
    released = threading.Event()
    slow = replace(GOOD, drip=True) if drip else replace(GOOD, first=released.wait)
    try:
        with serving(slow, GOOD) as server, engine_for(server, timeout_s=0.5) as engine:
            assert engine.submit(REQUEST).result(DEADLINE_S).finish == "stop"
            released.set()
    finally:
        released.set()

    assert len(server.requests) == 2


def test_no_more_requests_than_slots_are_with_the_server() -> None:
    # Given a server that answers only when three requests are with it at the same time
    together = threading.Barrier(3)
    answer = replace(GOOD, first=lambda: together.wait(DEADLINE_S))

    with serving(answer) as server, engine_for(server, concurrency=3) as engine:
        futures = [engine.submit(replace(REQUEST, id=str(n))) for n in range(9)]
        for future in futures:
            future.result(DEADLINE_S)

    assert server.most_busy == 3
    assert len(server.requests) == 9


def test_requests_are_spaced_over_the_minute() -> None:
    with serving(GOOD) as server, engine_for(server, requests_per_minute=600) as engine:
        for future in [engine.submit(replace(REQUEST, id=str(n))) for n in range(5)]:
            future.result(DEADLINE_S)

    assert server.at[-1] - server.at[0] >= 4 * 0.1 * 0.9


def test_cancel_stops_a_request_that_is_with_the_server() -> None:
    released = threading.Event()
    with (
        serving(replace(GOOD, first=released.wait), GOOD) as server,
        engine_for(server, concurrency=1) as engine,
    ):
        with_server, waiting = engine.submit(REQUEST), engine.submit(replace(REQUEST, id="r2"))
        wait_until(lambda: len(server.requests) == 1)

        engine.cancel("r1")
        engine.cancel("unknown")

        with pytest.raises(CancelledError):
            with_server.result(DEADLINE_S)
        # Then its slot is free for the next
        assert waiting.result(DEADLINE_S).finish == "stop"
        released.set()


def test_close_fails_requests_in_flight_and_refuses_new_ones() -> None:
    released = threading.Event()
    with serving(replace(GOOD, first=released.wait)) as server:
        with engine_for(server, concurrency=1) as engine:
            futures = [engine.submit(replace(REQUEST, id=str(n))) for n in range(3)]
            wait_until(lambda: len(server.requests) == 1)
            engine.close()
            futures.append(engine.submit(REQUEST))

            for future in futures:
                assert type(future.exception(DEADLINE_S)) is EngineLost
        released.set()


def test_redirect_is_not_followed() -> None:
    with serving(GOOD) as elsewhere:
        away = ServerReply(307, headers={"Location": elsewhere.url + "/chat/completions"})
        with serving(away) as server, engine_for(server) as engine:
            error = engine.submit(REQUEST).exception(DEADLINE_S)

    assert refusal_kind(error) == "redirected"
    assert elsewhere.requests == []


def test_proxy_of_the_environment_does_not_see_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(GOOD) as proxy, serving(GOOD) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        with engine_for(server) as engine:
            engine.submit(REQUEST).result(DEADLINE_S)

    assert (len(proxy.requests), len(server.requests)) == (0, 1)


@pytest.mark.parametrize(
    "asked",
    [
        replace(REQUEST, guided=True),
        replace(REQUEST, suppression=Suppression()),
        replace(REQUEST, adapter_sha256="0" * 64),
        replace(REQUEST, messages=(), token_ids=(1, 2, 3)),
    ],
)
def test_option_that_the_server_does_not_support_is_refused(asked: GenerationRequest) -> None:
    with serving(GOOD) as server, engine_for(server) as engine:
        error = engine.submit(asked).exception(DEADLINE_S)

    assert refusal_kind(error) == "unsupported"
    assert server.requests == []


LOOPBACK = [
    "http://127.0.0.1:8000/v1",
    "http://localhost/v1",
    "http://[::1]:1/v1",
    "http://127.9.9.9",
]
EXTERNAL = [
    "https://api.openai.com/v1",
    "http://10.0.0.5:8000/v1",
    "http://localhost.example.com/v1",
    "http://localhost@example.com/v1",
    "http://127.0.0.1.example.com",
    "http://0.0.0.0:8000",
]


@pytest.mark.parametrize("url", LOOPBACK)
def test_loopback_is_always_allowed(url: str) -> None:
    endpoint_allowed(url, False, ())


@pytest.mark.parametrize("url", EXTERNAL)
def test_other_hosts_need_to_be_allowed(url: str) -> None:
    with pytest.raises(UserError, match="outside this site"):
        endpoint_allowed(url, False, ("gpu7.example.org",))
    endpoint_allowed(url, True, ())


def test_listed_host_is_allowed_and_only_this_one() -> None:
    endpoint_allowed("http://GPU7.example.org:8000/v1", False, ("gpu7.example.ORG",))
    with pytest.raises(UserError, match=r"evil\.gpu7\.example\.org"):
        endpoint_allowed("http://evil.gpu7.example.org", False, ("gpu7.example.org",))


@pytest.mark.parametrize("url", ["ftp://x", "no url", "http://", "http://[::1", ""])
def test_url_without_http_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="URL"):
        endpoint_allowed(url, True, ())
