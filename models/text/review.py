"""A review as its reader sees it, and what the gate said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SpanKind = Literal["heading", "marker", "item", "unplaced"]


@dataclass(frozen=True)
class Item:
    """One titled point under an aspect; `position` counts from 0 within its aspect."""

    aspect: str
    position: int
    title: str
    text: str


@dataclass(frozen=True)
class Span:
    """A stretch [start, end) of the raw answer and what the parser took it for."""

    kind: SpanKind
    start: int
    end: int
    aspect: str | None = None


@dataclass(frozen=True)
class Review:
    """A parsed answer. `unplaced` is the text that belongs to no aspect, nothing is dropped."""

    items: tuple[Item, ...]
    empty_aspects: tuple[str, ...]
    missing_aspects: tuple[str, ...]
    unplaced: str
    spans: tuple[Span, ...]
    strict: bool


@dataclass(frozen=True)
class GateCheck:
    """One named check of the quality gate. A fatal check that did not pass rejects the review."""

    name: str
    passed: bool
    fatal: bool
    detail: str = ""


@dataclass(frozen=True)
class GateResult:
    """All checks of one review."""

    checks: tuple[GateCheck, ...]

    @property
    def passed(self) -> bool:
        """True when no fatal check failed."""
        return all(check.passed or not check.fatal for check in self.checks)
