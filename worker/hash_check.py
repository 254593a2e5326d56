"""Checks that a worker has the template and base weights of a reviewer version.

The first worker that serves a reviewer version records both hashes; every other must have the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from db import reviewers
from db.reviewers import Pins, ReviewerVersion
from db.session import Database
from dispatch.kinds import ModelUse
from errors import RetryLater
from models.text.templates import TEMPLATES


class HashMismatch(RetryLater):
    """This worker's template or base weights are not the reviewer's."""


class HashCheck:
    """Reads the hashes once for each reviewer version that a process serves."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._same: set[int] = set()

    def require(
        self, reviewer: ReviewerVersion, use: ModelUse, versions: Mapping[str, str]
    ) -> None:
        """Raise HashMismatch unless the hashes of the reviewer are those of this process."""
        if reviewer.id in self._same or not use.pinned:
            return
        template = TEMPLATES[use.template].sha256 if use.template else None
        mine = Pins(template, versions.get("weights_sha256"))
        pinned = reviewers.pin(self._database, reviewer.id, mine)
        for part in fields(Pins):
            ours, theirs = getattr(mine, part.name), getattr(pinned, part.name)
            if ours is not None and ours != theirs:
                raise HashMismatch(_sentence(reviewer, part.name, ours, theirs))
        self._same.add(reviewer.id)


def _sentence(reviewer: ReviewerVersion, name: str, ours: str, theirs: str) -> str:
    what = {"template_sha256": "chat template", "weights_sha256": "base weights"}[name]
    return (
        f"{reviewer.name} v{reviewer.version} was begun with other {what} ({theirs[:12]}) than "
        f"this worker has ({ours[:12]}): give it the same model revision and version of Referee"
    )
