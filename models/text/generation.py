"""The seam between a review and what generates it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from models.text.aspects import AspectSet

Finish = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Suppression:
    """Lowers the chance that an aspect opens with the empty marker; coefficient 1 is off.

    The coefficient c lies in (0, 1]. `probability` multiplies the marker token's odds by c; `logit`
    scales its raw score s to c*s if s > 0, else s/c: how we read the recipe's "0.95".
    """

    mode: Literal["probability", "logit"] = "logit"
    coefficient: float = 0.95


@dataclass(frozen=True)
class ReviewRequest:
    """One review to generate. Token limits count tokens of the engine's own tokenizer."""

    id: str
    system: str
    paper_text: str
    aspects: AspectSet
    template: str
    max_prompt_tokens: int
    max_new_tokens: int
    adapter_sha256: str | None = None
    temperature: float = 0.35
    top_p: float = 0.9
    seed: int = 0
    suppression: Suppression | None = None
    guided: bool = True
    #: JSON schema that the answer must follow, for servers that can promise it (judges ask so).
    answer_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Generation:
    """What came out. `token_ids` are the output's; times are wall-clock seconds."""

    text: str
    token_ids: tuple[int, ...]
    finish: Finish
    n_prompt_tokens: int
    n_output_tokens: int
    truncated_tokens: int
    seconds_queued: float
    seconds_generating: float
    adapter_sha256: str | None = None


class Engine(Protocol):
    """Generates reviews. Futures fail with EngineLost, RequestRefused or CancelledError only."""

    @property
    def slots(self) -> int:
        """How many requests make progress at the same time."""

    @property
    def versions(self) -> Mapping[str, str]:
        """What a review must record to be reproducible: libraries, weights hash, attention."""

    def submit(self, request: ReviewRequest) -> Future[Generation]:
        """Queue a request; returns at once."""

    def cancel(self, request_id: str) -> None:
        """Stop a request at its next decode step; unknown ids are ignored."""

    def close(self) -> None:
        """Stop; requests still in flight fail with EngineLost."""
