"""One exchange of the OpenAI chat format over HTTP.

What a server sends is not trusted: it may be of any size and type, and quote the paper.
"""

from __future__ import annotations

import json
import math
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

#: Largest token count that the database stores, in 32 bits.
_MAX_TOKENS = 2**31 - 1
#: Characters kept of a server's sentence about an error.
MAX_SENTENCE = 300
#: Characters kept of what a server says that it is.
_MAX_SERVER_NAME = 200


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


class UnusableAnswer(Exception):
    """A completion without a text that could be read; `kind` is the error kind of its refusal.

    `kind` is None for an answer that may be better when it is asked for again.
    """

    def __init__(self, reason: str, kind: str | None = None) -> None:
        super().__init__(reason)
        self.kind = kind


def parse_response(response: httpx.Response, content: bytes) -> ChatCompletion:
    """The answer in `response`, whose body is `content`.

    RetryableError when the server or the connection failed, RequestRefused when the server will
    never accept the request, RetryLater when the answer is empty.
    """
    if not response.is_success:
        raise _failure(response, content)
    try:
        return read_completion(json.loads(content))
    except UnusableAnswer as unusable:
        if unusable.kind is not None:
            raise RequestRefused(f"the server answered: {unusable}", kind=unusable.kind) from None
        # Not tried again at once: each try of a working server is paid for.
        raise RetryLater(f"the server answered: {unusable}") from None
    except (ValueError, RecursionError) as error:
        raise RetryableError("the answer is not a chat completion") from error


def read_completion(document: object) -> ChatCompletion:
    """The first choice of a chat completion.

    Raises UnusableAnswer for one without a text, ValueError for what is no chat completion.
    """
    choice = _object(_list(_object(document).get("choices"))[0])
    message, reason = _object(choice.get("message")), str(choice.get("finish_reason"))
    text = content_text(message.get("content"))
    if reason == "content_filter":
        raise UnusableAnswer("the content filter stopped the answer", kind="content_filter")
    if not text.strip():
        refusal = _refusal(message)
        if refusal:
            raise UnusableAnswer(f"refused: {refusal}", kind="refusal")
        raise UnusableAnswer(
            "no text, because the limit of tokens was reached before any"
            if reason == "length"
            else "no text"
        )
    usage = _object(_object(document).get("usage") or {})
    names = {"served_model": "model", "fingerprint": "system_fingerprint"}
    server = {key: _object(document).get(name) for key, name in names.items()}
    return ChatCompletion(
        text=text,
        finish_reason=reason,
        n_prompt_tokens=_token_count(usage.get("prompt_tokens")),
        n_output_tokens=_token_count(usage.get("completion_tokens")),
        server={key: str(name)[:_MAX_SERVER_NAME] for key, name in server.items() if name},
    )


def content_text(content: object) -> str:
    """The text of a message: a string, or a list of parts, whose texts are joined.

    Raises ValueError for other types.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = [_object(part) for part in _list(content, least=0)]
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def error_sentence(document: object) -> str:
    """What an error document says, in the form of OpenAI or of its imitators; "" for others."""
    if isinstance(document, str):
        return document
    if isinstance(document, list):
        return "; ".join(filter(None, map(error_sentence, document[:5])))
    if not isinstance(document, Mapping):
        return ""
    said = (error_sentence(document.get(key)) for key in ("error", "message", "detail", "msg"))
    return next(filter(None, said), "") or error_sentence(document.get("code"))


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("not a chat completion")
    return value


def _list(value: object, least: int = 1) -> list[Any]:
    if not isinstance(value, list) or len(value) < least:
        raise ValueError("not a chat completion")
    return value


def _refusal(message: Mapping[str, Any]) -> str:
    """A refusal in its own field, or in a part of the content."""
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    said = [message.get("refusal"), *(_object(part).get("refusal") for part in parts)]
    return next((text for text in said if isinstance(text, str) and text.strip()), "")


def _token_count(value: object) -> int:
    """A count that the database can store; 0, as for none, for anything else.

    The text was paid for: a wrong count must not lose it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return int(value) if 0 <= value <= _MAX_TOKENS else 0


def _failure(response: httpx.Response, content: bytes) -> RetryableError | RequestRefused:
    code = response.status_code
    sentence = f"{code} {_error_message(content) or response.reason_phrase}"
    if code in (408, 409, 429) or code >= 500:
        wait_s = _retry_after(response.headers.get("Retry-After"))
        return RetryableError(sentence, wait_s, unavailable=code in _UNAVAILABLE_CODES)
    if response.is_redirect:
        return RequestRefused(f"the server redirects elsewhere ({sentence})", kind="redirected")
    return RequestRefused(
        f"the server refused: {sentence}", kind=_REFUSALS.get(code, "bad_request")
    )


def _error_message(content: bytes) -> str:
    """The server's own sentence, in OpenAI's form if it has one."""
    try:
        sentence = error_sentence(json.loads(content))
    except (ValueError, RecursionError):
        sentence = ""
    return sentence or content.decode("utf-8", "replace")


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number or an HTTP date; None when the header says nothing usable."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = float(parsedate_to_datetime(value).timestamp()) - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)
