"""Judges as the queue knows them: a judge is a version with a queue of its own.

Its endpoint and prompt are stored with the version, so that a worker needs no message to know where
a question goes and how it is asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from db import reviewers
from db.reviewers import ReviewerVersion
from db.schema import JUDGE_QUEUE
from db.session import Database
from judge.pairwise import method_name
from models.text.reviewer import Endpoint


@dataclass(frozen=True)
class JudgeConfig:
    """One way of judging: the model's endpoint, whether lengths are made equal, and the prompt's
    hash."""

    endpoint: Endpoint
    equal: bool
    prompt: str

    @property
    def method(self) -> str:
        """The name under which its verdicts are stored."""
        return method_name(self.endpoint.model, equal=self.equal, prompt=self.prompt)

    @property
    def sha256(self) -> str:
        """Hash of everything in it."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As JSON types; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> JudgeConfig:
        """Read what `to_json` wrote."""
        return cls(Endpoint(**document["endpoint"]), document["equal"], document["prompt"])


def register_judge(database: Database, config: JudgeConfig) -> ReviewerVersion:
    """Store the judge as a version of its model's name, unless it is one already."""
    return reviewers.register(
        database,
        name=f"judge:{config.endpoint.model}",
        sha256=config.sha256,
        kind="api",
        queue=JUDGE_QUEUE,
        config=config.to_json(),
    )
