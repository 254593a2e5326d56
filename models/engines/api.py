"""The engine behind OpenAI-compatible servers.

One thread runs an event loop, so that a cancelled request stops at once and not at its time-out.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import httpx

from errors import EngineLost, RequestRefused, RetryLater, UserError
from models.engines.chat import (
    MAX_SENTENCE,
    ChatCompletion,
    RetryableError,
    chat_body,
    parse_response,
)
from models.text.generation import Generation, GenerationRequest
from models.text.quotation import without_quotations
from models.text.reviewer import Endpoint

#: Tries of one request, the first included; then the job goes back to its queue.
_MAX_ATTEMPTS = 5
#: Seconds of the longest wait between two tries. A server that asks for more gets its wish from
#: the queue, which does not hold a slot meanwhile.
_MAX_BACKOFF_S = 60.0
#: Seconds of the longest wait that it gets: a day.
_MAX_RETRY_AFTER_S = 86_400.0
#: Seconds that the queue keeps papers of a server that has answered before and is away.
_UNAVAILABLE_RETRY_S = 60.0
#: Seconds that connecting may take, whatever the endpoint's own time-out.
_CONNECT_S = 10.0
#: Bytes of the longest answer that is read: a hundred times a review of 4,096 tokens.
_MAX_ANSWER_BYTES = 2 << 20
#: Bytes of an error that are read; a sentence is at its start.
_MAX_ERROR_BYTES = 64 << 10


def endpoint_allowed(url: str, allow_external: bool, allowed_hosts: Sequence[str]) -> None:
    """UserError unless papers may be sent to `url`: loopback, an allowed host, or all allowed."""
    host = _host(url)
    if allow_external or _is_loopback(host) or host in map(str.lower, allowed_hosts):
        return
    raise UserError(
        f"papers would be sent to {host}, outside this site: use --allow-external, or add the host "
        "to REFEREE_ALLOWED_HOSTS"
    )


def _host(url: str) -> str:
    # The parser of the client that will connect, so that both see the same host.
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UserError(f"{url!r} is not a URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UserError(f"{url!r} is not the URL of an HTTP server")
    return parsed.host.lower()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ApiEngine:
    """An `Engine` that asks a server. RetryLater through the future when the server cannot now.

    The server applies its own template and its own limit to the prompt: nothing is cut here.
    Whether papers may go to this endpoint is the caller's to ask, paper by paper, of
    `endpoint_allowed`: an engine serves batches that differ in it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        api_key: str = "",
        backoff_s: float = 1.0,
    ) -> None:
        self._endpoint = endpoint
        self._backoff_s = backoff_s
        self._url = endpoint.url.rstrip("/") + "/chat/completions"
        self._client = httpx.AsyncClient(
            headers={
                **({"Authorization": f"Bearer {api_key}"} if api_key else {}),
                # A compressed answer has no bound before it is decompressed.
                "Accept-Encoding": "identity",
            },
            timeout=httpx.Timeout(endpoint.timeout_s, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=endpoint.concurrency),
            follow_redirects=False,
            # Proxies of the environment are for other hosts.
            trust_env=not _is_loopback(_host(endpoint.url)),
        )
        self._free = asyncio.Semaphore(endpoint.concurrency)
        self._next_start = 0.0
        self._server: Mapping[str, str] = {}
        self._has_answered = False
        self._tasks: dict[str, asyncio.Task[Generation]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api", daemon=True)
        self._thread.start()

    @property
    def slots(self) -> int:
        """How many requests are with the server at the same time."""
        return self._endpoint.concurrency

    @property
    def versions(self) -> Mapping[str, str]:
        """Where reviews come from, with what the server last said that it is."""
        # Stored with every review, where a password of the URL has no place.
        url = httpx.URL(self._endpoint.url).copy_with(username="", password="")
        return {"endpoint": str(url), "model": self._endpoint.model, **self._server}

    def submit(self, request: GenerationRequest) -> Future[Generation]:
        """Queue a request; returns at once."""
        future: Future[Generation] = Future()
        with self._lock:
            if self._closed:
                future.set_exception(EngineLost("the engine is closed"))
            else:
                submitted = time.monotonic()
                self._loop.call_soon_threadsafe(self._start, request, future, submitted)
        return future

    def cancel(self, request_id: str) -> None:
        """Drop a request, also one that is with the server; unknown ids are ignored."""
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(self._cancel_task, request_id)

    def close(self) -> None:
        """Stop; requests in flight fail with EngineLost."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # What follows runs on the loop's thread.

    def _start(
        self, request: GenerationRequest, future: Future[Generation], submitted: float
    ) -> None:
        task = self._loop.create_task(self._generate(request, submitted))
        self._tasks[request.id] = task
        task.add_done_callback(partial(self._finish, request.id, future))

    def _cancel_task(self, request_id: str) -> None:
        if task := self._tasks.get(request_id):
            task.cancel()

    def _finish(
        self, request_id: str, future: Future[Generation], task: asyncio.Task[Generation]
    ) -> None:
        if self._tasks.get(request_id) is task:
            del self._tasks[request_id]
        if task.cancelled() and not self._closed:
            future.cancel()
        if not future.set_running_or_notify_cancel():
            return
        if task.cancelled():
            future.set_exception(EngineLost())
        elif error := task.exception():
            future.set_exception(error)
        else:
            future.set_result(task.result())

    async def _shut_down(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    async def _generate(self, request: GenerationRequest, submitted: float) -> Generation:
        _check(request)
        async with self._free:
            started = time.monotonic()
            completion = await self._post_with_retries(request)
        self._server, self._has_answered = completion.server, True
        return Generation(
            text=completion.text,
            token_ids=(),
            finish="length" if completion.finish_reason == "length" else "stop",
            n_prompt_tokens=completion.n_prompt_tokens,
            n_output_tokens=completion.n_output_tokens,
            truncated_tokens=0,
            seconds_queued=started - submitted,
            seconds_generating=time.monotonic() - started,
        )

    async def _post_with_retries(self, request: GenerationRequest) -> ChatCompletion:
        body = chat_body(request, self._endpoint.model)
        for n_attempts in range(1, _MAX_ATTEMPTS + 1):
            await self._limit_rate()
            try:
                return await self._post(body)
            except RequestRefused as refusal:
                raise RequestRefused(_told(refusal, request), kind=refusal.kind) from None
            except RetryLater as empty:
                raise RetryLater(_told(empty, request)) from None
            except RetryableError as failure:
                wait_s = failure.wait_s or self._backoff(n_attempts)
                if n_attempts == _MAX_ATTEMPTS or wait_s > _MAX_BACKOFF_S:
                    raise self._retry_later(failure, wait_s, _told(failure, request)) from None
            await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")

    def _retry_later(self, failure: RetryableError, wait_s: float, sentence: str) -> RetryLater:
        """Say when the queue should try again: at a time that is named, no attempt is used up."""
        named_s = min(wait_s, _MAX_RETRY_AFTER_S) if wait_s > _MAX_BACKOFF_S else 0.0
        if failure.unavailable and self._has_answered:
            # Not so from the start: a wrong address would be tried for ever, without a sentence.
            named_s = max(named_s, _UNAVAILABLE_RETRY_S)
        return RetryLater(f"{_host(self._url)}: {sentence}", wait_s=named_s)

    def _backoff(self, n_attempts: int) -> float:
        """Seconds, doubled each time, with jitter so that many workers do not come back as one."""
        longest = min(self._backoff_s * 2.0 ** (n_attempts - 1), _MAX_BACKOFF_S)
        return longest * random.uniform(0.5, 1.0)

    async def _limit_rate(self) -> None:
        """Space the starts of all requests evenly over the minute."""
        now = self._loop.time()
        start = max(now, self._next_start)
        self._next_start = start + 60.0 / self._endpoint.requests_per_minute
        await asyncio.sleep(start - now)

    async def _post(self, body: Mapping[str, Any]) -> ChatCompletion:
        try:
            # httpx limits each read; a server that drips is stopped by the limit on the whole.
            async with (
                asyncio.timeout(self._endpoint.timeout_s),
                self._client.stream("POST", self._url, json=body) as response,
            ):
                content = await _read_body(response)
        except TimeoutError as error:
            raise RetryableError(f"no answer within {self._endpoint.timeout_s:g} s") from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise RetryableError(str(error) or type(error).__name__, unavailable=True) from error
        except httpx.RequestError as error:
            raise RetryableError(str(error) or type(error).__name__) from error
        return parse_response(response, content)


async def _read_body(response: httpx.Response) -> bytes:
    """The body of an answer, or the beginning of an error's.

    Raises RequestRefused for an answer that is too long.
    """
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if not response.is_success and len(content) >= _MAX_ERROR_BYTES:
            return bytes(content[:_MAX_ERROR_BYTES])
        if len(content) > _MAX_ANSWER_BYTES:
            raise RequestRefused(
                f"the answer is longer than {_MAX_ANSWER_BYTES >> 20} MiB", kind="too_long"
            )
    return bytes(content)


def _told(error: Exception, request: GenerationRequest) -> str:
    """A server's sentence, bounded, without what it quotes of the paper.

    Errors are stored and logged, and must not keep a paper's words after it was purged.
    """
    prompt = (message.content for message in request.messages if message.role != "system")
    return without_quotations(str(error), prompt, MAX_SENTENCE)


def _check(request: GenerationRequest) -> None:
    if request.guided or request.suppression or request.adapter_sha256 or request.token_ids:
        raise RequestRefused(
            "an endpoint supports no guidance, suppression, adapter or tokenised prompt",
            kind="unsupported",
        )
