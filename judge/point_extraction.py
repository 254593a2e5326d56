"""Extraction of points from a review: its items, or the sentences of a free text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Protocol

from db.points import NewPoint, ReviewText, StoredPoint

#: Name of this extractor; it must change when the rules below do.
PARSED = "parsed"

#: A shorter sentence, in words, is too short to be matched and is joined to its neighbour.
MIN_WORDS = 6
#: Sentences that only summarize the paper are not points.
_SUMMARY = re.compile(
    r"(?i)^(?:in )?(?:this|the) (?:paper|work|article|submission|authors?|manuscript)\b.{0,40}?\b"
    r"(?:propos|present|introduc|stud(?:y|ies)|describ|investigat|consider|address|develop|"
    r"aims?\b|tackl|explor)"
)
_MARKERS = re.compile(
    r"(?i)^[\W_]*(?:no related terms?|n/?a|none|nothing|not applicable|see above|-)[\W_]*$"
)
_BREAK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•+–]|\(?\d{1,2}[.)])\s)|\s(?=\(?\d{1,2}[.)]\s+[A-Z])")
_BULLET = re.compile(r"^\s*(?:[-*•+–]|\(?\d{1,2}[.)])\s+")
#: The end of a sentence, which is not after an abbreviation or an initial, or within a number.
_END = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bal)(?<!\bvs)(?<!\bFig)(?<!\bEq)(?<!\bSec)(?<!\b[A-Z])"
    r"[.!?][\"')\]]*\s+(?=[A-Z(\"'\[])"
)
_WORD = re.compile(r"[^\W_]+")


class Extractor(Protocol):
    """Finds the points of a review."""

    @property
    def name(self) -> str:
        """Stored with every point."""

    def extract(self, review: ReviewText) -> list[NewPoint]:
        """The points, in the review's order."""


class ParsedPoints:
    """The items of a review, or its sentences."""

    name = PARSED

    def extract(self, review: ReviewText) -> list[NewPoint]:
        """The points, in the review's order."""
        return points_of(review)


def points_of(review: ReviewText) -> list[NewPoint]:
    """The review's points: its items, or its sentences when most of its text is in no item.

    An item without a title is free text under an aspect, and its sentences are the points. The
    marker of an empty aspect is never a point.
    """
    items = [
        NewPoint(aspect, point)
        for aspect, title, text in review.items
        for point in ([f"{title}: {text}"] if title else sentences(text))
        if not is_marker(title or text)
    ]
    in_items = sum(len(point.text) for point in items)
    if in_items >= len(review.unplaced.strip()):
        return items
    return [NewPoint(None, sentence) for sentence in sentences(review.raw)]


def sentences(text: str) -> list[str]:
    """Sentences of a free-text review that are points, in order."""
    blocks = (_joined(_sentences(_BULLET.sub("", block))) for block in _BREAK.split(text))
    return [sentence for block in blocks for sentence in block if _is_point(sentence)]


def _joined(sentences: Iterable[str]) -> list[str]:
    """Join each short sentence to the one before, or at a block's start to the one after."""
    found: list[str] = []
    for sentence in sentences:
        if found and (_is_short(sentence) or _is_short(found[-1])):
            found[-1] = f"{found[-1]} {sentence}"
        else:
            found.append(sentence)
    return found


def _is_short(sentence: str) -> bool:
    return len(_WORD.findall(sentence)) < MIN_WORDS


def _sentences(block: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(block):
        yield " ".join(block[start : end.end()].split())
        start = end.end()
    if rest := " ".join(block[start:].split()):
        yield rest


def _is_point(sentence: str) -> bool:
    return not _is_short(sentence) and not _SUMMARY.match(sentence) and not is_marker(sentence)


def is_marker(text: str) -> bool:
    """Whether this text only marks an empty aspect, such as "N/A"."""
    return _MARKERS.match(text) is not None


def equal_cut(points: Sequence[StoredPoint], n: int, paper: str) -> list[StoredPoint]:
    """Cut a review to `n` points, those with the smallest hashes of `paper` and position.

    `paper` is the paper's SHA-256. Equal reviews are cut to the same points in every database.
    """
    return equal_cuts(points, n, paper)[0]


def equal_cuts(points: Sequence[StoredPoint], n: int, paper: str) -> list[list[StoredPoint]]:
    """Cuts to `n` points such that every point is in equally many: each run of `n` on the ring that
    is ordered by the hashes. There is a single cut when all points or none are kept.
    """

    def rank(point: StoredPoint) -> bytes:
        return hashlib.sha256(f"{paper}:{point.position}".encode()).digest()

    ring = sorted(points, key=rank)
    n = min(n, len(ring))
    runs = [(ring + ring)[start : start + n] for start in range(len(ring) if n else 0)]
    chosen = runs if n < len(ring) else [ring]
    return [sorted(run, key=attrgetter("position")) for run in chosen] or [[]]
