"""Kinds of jobs: the table of their handlers, and the interface that a handler implements.

A worker looks up a job's kind here and drives its handler; claims, leases, retries, cancellation
and draining are the same for every kind (`worker.job_runner`). A new kind is one module with a
handler and one line in `KINDS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from db.claims import Claim
from db.completion import Cost
from db.schema import JUDGE_QUEUE
from db.session import Database
from models.text.generation import Generation, GenerationRequest
from models.text.reviewer import Endpoint, ReviewerConfig


@dataclass(frozen=True)
class Kind:
    """How one kind of job is done."""

    #: "module:class" of its handler, imported by a worker on the first claim of the kind.
    handler: str
    #: Queue of all its jobs, which cpu workers serve; None: each reviewer's own.
    queue: str | None = None


KINDS: dict[str, Kind] = {
    "review": Kind("worker.handlers.review:ReviewHandler"),
    "merge": Kind("worker.handlers.merge:MergeHandler"),
    "judge": Kind("judge.handler:JudgeHandler", queue=JUDGE_QUEUE),
}


def fixed_queues() -> tuple[str, ...]:
    """The queues of kinds that have one of their own; a cpu worker serves them all."""
    return tuple(dict.fromkeys(kind.queue for kind in KINDS.values() if kind.queue is not None))


@dataclass(frozen=True)
class ModelUse:
    """The model that a job's requests go to, as a worker's engines select it.

    `sha256` is the reviewer version's; `base` names the weights of a local model, `endpoint` is an
    OpenAI-compatible server. With `pinned` every worker must have the chat template and weights
    that the version's first worker had.
    """

    sha256: str
    base: str | None = None
    endpoint: Endpoint | None = None
    adapter_sha256: str | None = None
    template: str | None = None
    pinned: bool = False

    @classmethod
    def of(cls, sha256: str, config: ReviewerConfig) -> ModelUse:
        """The model of a reviewer version."""
        return cls(
            sha256=sha256,
            base=None if config.base is None else config.base.name,
            endpoint=config.endpoint,
            adapter_sha256=config.adapter_sha256,
            template=config.template,
            pinned=config.kind == "local",
        )


@dataclass(frozen=True)
class Accepted:
    """A result that may be stored: `commit` ends the job with it in one fenced transaction.

    `commit` returns False, and has written nothing, when the job was lost before.
    """

    cost: Cost
    commit: Callable[[], bool]


@dataclass(frozen=True)
class Rejected:
    """An answer that is not stored; `detail` becomes that of the job's `rejected` event."""

    reason: str
    detail: Mapping[str, Any]


class Task(Protocol):
    """One job that needs a model's answer, read from its claim."""

    @property
    def model(self) -> ModelUse:
        """Where its requests go."""

    @property
    def tries(self) -> int:
        """How many requests may be made until an answer is accepted."""

    def request(self, number: int) -> GenerationRequest:
        """The request of try `number`, from 0; its id is unique to job, attempt and try."""

    def read(
        self, request: GenerationRequest, generation: Generation, versions: Mapping[str, str]
    ) -> Accepted | Rejected:
        """Check an answer; `versions` are the engine's, after the generation."""

    def exhausted(self, rejected: Sequence[Rejected]) -> Accepted:
        """What becomes of the job when no answer was accepted; may raise GiveUp."""


class Handler(Protocol):
    """Does the jobs of one kind; made once a worker process."""

    def __init__(self, database: Database) -> None: ...

    def open(self, claim: Claim) -> Task | Accepted:
        """Read what a claimed job asks for; Accepted when no model is needed.

        Raises GiveUp when the job cannot be done.
        """


def load_handler(kind: str, database: Database) -> Handler:
    """Import and make the handler of a kind."""
    module, _, name = KINDS[kind].handler.partition(":")
    handler: Handler = getattr(importlib.import_module(module), name)(database)
    return handler
