"""Questions to a large model whose answers are JSON of a known shape, read strictly.

An answer that does not fit is asked for again, then reported as unreadable:
it is never guessed at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from errors import GiveUp
from models.engines.api import ApiEngine
from models.text.generation import Engine, Generation, GenerationRequest, Message
from models.text.reviewer import Endpoint

T = TypeVar("T")

#: Times that a question is asked before its answer counts as unreadable.
TRIES = 3
#: A question asked again needs some randomness to be answered differently.
_RETRY_TEMPERATURE = 0.7
#: Tokens of the longest answer: twenty pairs with their reasons.
MAX_ANSWER_TOKENS = 2048
#: Tokens that a question may have; the server has limits of its own.
_MAX_PROMPT_TOKENS = 120_000


class Unreadable(GiveUp):
    """The model's answers could not be read."""


@dataclass(frozen=True)
class Question:
    """What is asked. `schema` is the JSON schema of the answer."""

    id: str
    instruction: str
    material: str
    schema: Mapping[str, Any]
    max_tokens: int = MAX_ANSWER_TOKENS


class ModelClient:
    """One model behind an OpenAI-compatible endpoint, or any engine."""

    def __init__(self, engine: Engine, model: str) -> None:
        self._engine = engine
        self.model = model

    def ask(self, question: Question, read: Callable[[Any], T], seed: int = 0) -> T:
        """One answer. Raises Unreadable, or what the engine raises."""
        return next(iter(self.ask_all([question], read, seed)))

    def ask_all(
        self, questions: Sequence[Question], read: Callable[[Any], T], seed: int = 0
    ) -> list[T]:
        """Answers in the order of the questions, asked at the same time.

        `read` turns a JSON value into an answer, or raises ValueError. Raises Unreadable for the
        first question whose answers cannot be read.
        """
        first = [self._submit(question, seed, 0) for question in questions]
        return [
            self._await_answer(question, future, read, seed)
            for question, future in zip(questions, first, strict=True)
        ]

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def _await_answer(
        self,
        question: Question,
        future: Future[Generation],
        read: Callable[[Any], T],
        seed: int,
    ) -> T:
        reason = ""
        for attempt in range(TRIES):
            if attempt:
                future = self._submit(question, seed, attempt)
            try:
                return read(json_value(future.result().text))
            except ValueError as error:
                reason = str(error)
        raise Unreadable(f"{TRIES} answers could not be read: {reason}", kind="unreadable")

    def _submit(self, question: Question, seed: int, attempt: int) -> Future[Generation]:
        return self._engine.submit(request_of(question, seed, attempt))


def request_of(
    question: Question, seed: int, attempt: int, id: str | None = None
) -> GenerationRequest:
    """The request of a question's `attempt`, counted from 0; `id` replaces the question's own."""
    return GenerationRequest(
        id=f"{question.id}.{attempt}" if id is None else id,
        messages=(Message("system", question.instruction), Message("user", question.material)),
        max_prompt_tokens=_MAX_PROMPT_TOKENS,
        max_new_tokens=question.max_tokens,
        temperature=_RETRY_TEMPERATURE if attempt else 0.0,
        top_p=1.0,
        seed=seed + attempt,
        json_schema=question.schema,
    )


def open_model_client(endpoint: Endpoint, api_key: str) -> ModelClient:
    """A client for an endpoint that papers may be sent to."""
    return ModelClient(ApiEngine(endpoint, api_key=api_key), endpoint.model)


def json_value(text: str) -> Any:
    """The one JSON value that the text is, a code fence around it allowed.

    ValueError for anything else: text before or after it, a key given twice, NaN.
    """
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        text = text[3:-3].removeprefix("json").strip()
    try:
        return json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ValueError("the answer is not JSON") from error
    except RecursionError as error:
        raise ValueError("the answer is nested too deep") from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the answer has a key twice")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"the answer holds {constant}")


def field(value: Any, name: str) -> Any:
    """A field of a JSON object. ValueError when it is not there."""
    if not isinstance(value, dict) or name not in value:
        raise ValueError(f"the answer has no {name}")
    return value[name]


def choice(value: Any, allowed: Iterable[str]) -> str:
    """Exactly one of the allowed words, upper or lower case. ValueError for anything else."""
    for word in allowed:
        if isinstance(value, str) and value.strip().lower() == word.lower():
            return word
    raise ValueError(f"{value!r} is none of {', '.join(allowed)}")


def whole_number(value: Any, low: int, high: int) -> int:
    """A whole number from low to high, as a number or its digits; "10" is ten, not one."""
    digits = value.strip() if isinstance(value, str) else value
    if isinstance(digits, str) and digits.isascii() and digits.isdigit():
        digits = int(digits)
    if isinstance(digits, float) and digits.is_integer():
        digits = int(digits)
    if isinstance(digits, bool) or not isinstance(digits, int) or not low <= digits <= high:
        raise ValueError(f"{value!r} is no whole number from {low} to {high}")
    return digits


def version_of(*texts: object) -> str:
    """Short hash of a prompt and its schema, stored beside what came of it."""
    canonical = json.dumps(texts, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
