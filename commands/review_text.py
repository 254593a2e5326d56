"""A review as plain text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Protocol

from db.reviews import ReviewView
from models.text.aspects import ASPECT_SETS, EMPTY_LINE, Aspect

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
    return review_text(caption, review.items, review.empty_aspects, review.unplaced)


def review_text(
    caption: str, items: Sequence[ItemLike], empty_aspects: Iterable[str], unplaced: str
) -> str:
    """A review by aspect, wrapped; what belongs to no aspect comes last."""
    aspects = _aspects({item.aspect for item in items} | set(empty_aspects))
    blocks = [f"— {caption} —", *(_aspect_text(aspect, items) for aspect in aspects)]
    if unplaced:
        blocks.append(f"(belongs to no aspect)\n{textwrap.fill(unplaced, _WIDTH)}")
    return "\n\n".join(blocks) + "\n"


def _aspects(keys: set[str]) -> Sequence[Aspect]:
    """The aspect set that holds all keys; keys of no set stand for themselves."""
    fitting = [known for known in ASPECT_SETS.values() if keys <= set(known.keys)]
    return fitting[0].aspects if fitting else [Aspect(key, key) for key in sorted(keys)]


def _aspect_text(aspect: Aspect, items: Sequence[ItemLike]) -> str:
    lines = [
        textwrap.fill(
            f"{item.title}. {item.text}" if item.title else item.text,
            _WIDTH,
            initial_indent="  * ",
            subsequent_indent="    ",
        )
        for item in items
        if item.aspect == aspect.key
    ]
    heading = textwrap.fill(f"[{aspect.heading}]", _WIDTH)
    return "\n".join([heading, *(lines or [f"  {EMPTY_LINE}"])])
