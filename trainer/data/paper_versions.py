"""Choose the version of a paper that its reviewers saw."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

#: Prefix of choices that no rule could make; `data clean` flags those papers.
UNKNOWN = "unknown"
#: Text that submission templates print instead of, or above, the authors.
_ANONYMOUS = re.compile(
    r"anonymous authors?|anonymous (?:acl|eacl|naacl|emnlp) submission|under double-blind review"
    r"|author names withheld|affiliation\s+address\s+email",
    re.IGNORECASE,
)
#: Characters at a text's start that contain the authors.
_HEAD_CHARS = 3000


@dataclass(frozen=True)
class Version(Generic[T]):
    """One version of a paper; `content` is the caller's."""

    id: str
    content: T
    created_ms: int | None = None
    anonymous: bool = False


@dataclass(frozen=True)
class VersionChoice(Generic[T]):
    """The chosen version and the reason, which is stored with the paper."""

    version: Version[T]
    why: str


def choose_version(versions: Sequence[Version[T]], first_review_ms: int | None) -> VersionChoice[T]:
    """The last version before the first review, else an anonymous one, else the last (unknown).

    `versions` are in the order in which they were made and not empty.
    """
    if first_review_ms is not None:
        before = [
            v for v in versions if v.created_ms is not None and v.created_ms < first_review_ms
        ]
        if before:
            chosen = max(before, key=lambda version: version.created_ms or 0)
            return VersionChoice(chosen, "last version before the first review")
    anonymous = [version for version in versions if version.anonymous]
    if anonymous:
        return VersionChoice(anonymous[-1], "anonymous submission")
    return VersionChoice(versions[-1], f"{UNKNOWN}: perhaps revised after the reviews")


def looks_anonymous(text: str) -> bool:
    """Does the beginning of a paper's text hide its authors' names?"""
    return _ANONYMOUS.search(text[:_HEAD_CHARS]) is not None
