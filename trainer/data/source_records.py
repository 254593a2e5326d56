"""Records of a source: papers with their reviews and other notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from papers.paper import Paper

NoteKind = Literal["review", "meta_review", "decision", "author_reply", "public_comment"]

#: The parts of review forms that merging knows, under one name for all venues. `mixed` holds
#: strengths and weaknesses in one text, `review` everything.
PARTS = (
    *("summary", "strengths", "weaknesses", "mixed", "questions"),
    *("suggestions", "limitations", "review"),
)


@dataclass(frozen=True)
class Note:
    """A review or another note. `parts` are PARTS -> text, `extra` the form's other fields."""

    id: str
    kind: NoteKind
    parts: Mapping[str, str]
    rating: float | None = None
    confidence: float | None = None
    #: Milliseconds since 1970, as OpenReview counts.
    created_ms: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All parts, each under its name unless the form has only one field."""
        if set(self.parts) <= {"review"}:
            return self.parts.get("review", "")
        return "\n\n".join(f"{name.capitalize()}: {text}" for name, text in self.parts.items())


@dataclass(frozen=True)
class SourcePaper:
    """A paper with its notes; `merged_review` came with it, in the output grammar."""

    id: str
    paper: Paper
    notes: tuple[Note, ...] = ()
    venue: str | None = None
    year: int | None = None
    decision: str | None = None
    version_choice: str | None = None
    merged_review: str | None = None


@dataclass(frozen=True)
class Problem:
    """A part of a source that was skipped, in one sentence with its place."""

    sentence: str
