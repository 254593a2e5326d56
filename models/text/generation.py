"""What an engine is asked for and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from models.text.aspects import AspectSet

Finish = Literal["stop", "length", "cancelled"]
#: How a prompt's matrix products are computed: as trained, or in FP8 where the device can.
Arithmetic = Literal["exact", "fp8"]


@dataclass(frozen=True)
class Suppression:
    """Lowers the chance that an aspect opens with the empty marker; coefficient 1 is off.

    The coefficient c lies in (0, 1]. `probability` multiplies the marker token's odds by c; `logit`
    scales its raw score s to c*s if s > 0, else s/c: how we read the recipe's "0.95".
    """

    mode: Literal["probability", "logit"] = "logit"
    coefficient: float = 0.95


class Message(NamedTuple):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """A text to generate: a prompt, the form of the answer, sampling and limits.

    Token limits count tokens of the engine's own tokenizer. ValueError for a request that
    contradicts itself.
    """

    id: str
    messages: tuple[Message, ...] = ()
    #: A tokenised prompt in place of messages. It is used unchanged and never cut.
    token_ids: tuple[int, ...] = ()
    #: Chat format that a local engine must have loaded; None: whichever it has.
    template: str | None = None
    #: Limit of the whole prompt. Only the tail of the last message is cut to fit.
    max_prompt_tokens: int
    max_new_tokens: int
    #: Headings that the answer should have. Suppression acts on the empty marker below them.
    form: AspectSet | None = None
    #: Constrain decoding to the grammar of `form`.
    guided: bool = False
    #: JSON schema that the answer must follow, for servers that support structured output.
    json_schema: Mapping[str, Any] | None = None
    adapter_sha256: str | None = None
    temperature: float = 0.35
    top_p: float = 0.9
    seed: int = 0
    suppression: Suppression | None = None
    #: `fp8` lets the engine read the prompt in FP8; the answer is always generated as trained.
    arithmetic: Arithmetic = "exact"
    #: A local engine starts waiting requests with lower numbers first.
    priority: int = 1

    def __post_init__(self) -> None:
        if bool(self.messages) == bool(self.token_ids):
            raise ValueError("a request has either messages or token ids")
        if self.form is None and (self.guided or self.suppression is not None):
            raise ValueError("guidance and suppression need the form of the answer")
        if self.form is not None and self.json_schema is not None:
            raise ValueError("an answer has a form or a JSON schema, not both")

    @property
    def text(self) -> str:
        """The last message; empty for a tokenised prompt."""
        return self.messages[-1].content if self.messages else ""


@dataclass(frozen=True)
class Generation:
    """The result of a request. `token_ids` are the output's; times are wall-clock seconds."""

    text: str
    token_ids: tuple[int, ...]
    finish: Finish
    n_prompt_tokens: int
    n_output_tokens: int
    truncated_tokens: int
    seconds_queued: float
    seconds_generating: float
    adapter_sha256: str | None = None
    #: How the prompt was read; None where the engine does not know it.
    arithmetic: Arithmetic | None = None


class Engine(Protocol):
    """Generates texts. Futures fail with EngineLost, RequestRefused or CancelledError only."""

    @property
    def slots(self) -> int:
        """How many requests make progress at the same time."""

    @property
    def versions(self) -> Mapping[str, str]:
        """What a review must record to be reproducible: libraries, weights hash, attention."""

    def submit(self, request: GenerationRequest) -> Future[Generation]:
        """Queue a request; returns at once."""

    def cancel(self, request_id: str) -> None:
        """Stop a request at its next decode step; unknown ids are ignored."""

    def close(self) -> None:
        """Stop; requests still in flight fail with EngineLost."""
