"""One exchange of the OpenAI chat format over HTTP."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from errors import RequestRefused, RetryLater
from models.text.generation import GenerationRequest

#: Kinds under which refusals by the server are recorded.
_REFUSALS = {400: "bad_request", 401: "unauthorised", 403: "forbidden", 404: "not_found"}

#: Statuses of a server, or of a proxy, that takes no requests at the moment.
_UNAVAILABLE_CODES = (429, 502, 503, 504)


class RetryableError(Exception):
    """One attempt failed for a reason that may pass; `wait_s` is how long the server asks to wait.

    `unavailable`: the server takes no requests at all at the moment.
    """

    def __init__(
        self, reason: str, wait_s: float | None = None, *, unavailable: bool = False
    ) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.unavailable = unavailable


@dataclass(frozen=True)
class ChatCompletion:
    """A server's answer; `server` is what the server says that it is."""

    text: str
    finish_reason: str
    n_prompt_tokens: int
    n_output_tokens: int
    server: Mapping[str, str]


def chat_body(request: GenerationRequest, model: str) -> dict[str, Any]:
    """The body of a POST to /chat/completions."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [message._asdict() for message in request.messages],
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_new_tokens,
        "seed": request.seed,
    }
    if request.json_schema is not None:
        schema = {"name": "answer", "strict": True, "schema": request.json_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def parse_response(response: httpx.Response) -> ChatCompletion:
    """The answer in `response`.

    RetryableError when the server or the connection failed, RequestRefused when the server will
    never accept the request, RetryLater when the answer is empty.
    """
    if not response.is_success:
        raise _failure(response)
    return _read(response)


def _failure(response: httpx.Response) -> RetryableError | RequestRefused:
    code = response.status_code
    sentence = f"{code} {_error_message(response)}"
    if code in (408, 409, 429) or code >= 500:
        wait_s = _retry_after(response.headers.get("Retry-After"))
        return RetryableError(sentence, wait_s, unavailable=code in _UNAVAILABLE_CODES)
    if response.is_redirect:
        return RequestRefused(f"the server redirects elsewhere ({sentence})", kind="redirected")
    return RequestRefused(
        f"the server refused: {sentence}", kind=_REFUSALS.get(code, "bad_request")
    )


def _error_message(response: httpx.Response) -> str:
    """The server's own sentence, in OpenAI's form if it has one."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(response.text.split())[:200] or response.reason_phrase


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number or an HTTP date; None when the header says nothing usable."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = float(parsedate_to_datetime(value).timestamp()) - time.time()
        except ValueError:
            return None
    return max(0.0, seconds)


def _read(response: httpx.Response) -> ChatCompletion:
    try:
        completion = _chat_completion(response.json())
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RetryableError("the answer is not a chat completion") from error
    if completion.finish_reason == "content_filter":
        raise RequestRefused(
            "the server's content filter stopped the answer", kind="content_filter"
        )
    if not completion.text.strip():
        # Not tried again at once: each try of a working server is paid for.
        raise RetryLater("the server answered with no text")
    return completion


def _chat_completion(document: Any) -> ChatCompletion:
    choice = document["choices"][0]
    usage = document.get("usage") or {}
    names = {"served_model": "model", "fingerprint": "system_fingerprint"}
    return ChatCompletion(
        text=str(choice["message"]["content"] or ""),
        finish_reason=str(choice.get("finish_reason")),
        n_prompt_tokens=int(usage.get("prompt_tokens") or 0),
        n_output_tokens=int(usage.get("completion_tokens") or 0),
        server={key: str(document[name]) for key, name in names.items() if document.get(name)},
    )
