"""A review as plain text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Protocol

from db.reviews import ReviewView
from models.text.aspects import EMPTY_LINE, find_aspect_set

_WIDTH = 100


class ItemLike(Protocol):
    """An item of a review: as parsed, or as stored."""

    @property
    def aspect(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...


def stored_review_text(review: ReviewView) -> str:
    """A review of the database with its reviewer, version and id as caption."""
    caption = f"{review.reviewer}, version {review.version}, review {review.id}"
    # A text that was never parsed, such as a human review, belongs to no aspect.
    parsed = review.items or review.empty_aspects or review.unplaced
    unplaced = review.unplaced if parsed else review.raw
    return review_text(
        caption, review.items, review.empty_aspects, unplaced, aspects=review.aspects
    )


def review_text(
    caption: str,
    items: Sequence[ItemLike],
    empty_aspects: Iterable[str],
    unplaced: str,
    *,
    aspects: str | None,
) -> str:
    """A review by aspect, wrapped; text outside of all aspects comes last.

    `aspects` names the set that its reviewer writes in. A review without any aspect, such as a
    human one, has no headings, and an aspect that the set does not have stands under its key.
    """
    known = find_aspect_set(aspects)
    used = dict.fromkeys([*(item.aspect for item in items), *empty_aspects])
    headings = dict(known.headings) if known and used else {}
    headings |= {key: key for key in sorted(used) if key not in headings}
    blocks = [f"— {caption} —"]
    blocks += [_aspect_text(key, heading, items) for key, heading in headings.items()]
    if unplaced:
        blocks.append(f"(belongs to no aspect)\n{textwrap.fill(unplaced, _WIDTH)}")
    return "\n\n".join(blocks) + "\n"


def _aspect_text(key: str, heading: str, items: Sequence[ItemLike]) -> str:
    lines = [
        textwrap.fill(
            f"{item.title}. {item.text}" if item.title else item.text,
            _WIDTH,
            initial_indent="  * ",
            subsequent_indent="    ",
        )
        for item in items
        if item.aspect == key
    ]
    return "\n".join([textwrap.fill(f"[{heading}]", _WIDTH), *(lines or [f"  {EMPTY_LINE}"])])
