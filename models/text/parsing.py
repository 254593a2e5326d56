"""From a raw answer to a Review and back.

One pass reads strict and drifted answers alike; `Review.strict` says whether the answer was exactly
in the output grammar. Every non-whitespace character belongs to exactly one span. Nothing is
guessed: what stands under no known heading is unplaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from models.text.aspects import EMPTY_LINE, EMPTY_MARKER, AspectSet, normalise
from models.text.headings import find_heading, heading_names
from models.text.review import Item, Review, Span, SpanKind

_ITEM_LINE = re.compile(r"<([^<>\n]+)> ([^\n]+)")
_BULLET = re.compile(r"(?:[-*•+–]|\(?\d{1,2}[.)])\s+")
_TITLE = re.compile(r"<([^<>]+)>|\*\*([^*]+?)(?::\*\*|\*\*\s*:)")
#: Normalised titles that stand for an empty aspect; the singular is a slip seen in drifted answers.
_MARKER_TITLES = frozenset({"no related terms", "no related term"})


def parse(raw: str, aspects: AspectSet) -> Review:
    """Read an answer of any shape; never fails, takes time linear in its length.

    An aspect is missing without its heading, and empty with a heading but no item.
    """
    reader = _Reader(raw, aspects)
    reader.read()
    pieces = reader.pieces
    items = tuple(_number(pieces, aspects))
    used = {item.aspect for item in items}
    return Review(
        items=items,
        empty_aspects=tuple(k for k in aspects.keys if k in reader.seen and k not in used),
        missing_aspects=tuple(k for k in aspects.keys if k not in reader.seen),
        unplaced="\n".join(raw[p.start : p.end] for p in pieces if p.kind == "unplaced"),
        spans=tuple(Span(p.kind, p.start, p.end, p.aspect) for p in pieces),
        strict=is_strict(raw, aspects),
    )


def is_strict(raw: str, aspects: AspectSet) -> bool:
    """Is this exactly the output grammar, but for newlines at the end?"""
    blocks = raw.rstrip("\n").split("\n\n")
    return len(blocks) == len(aspects.aspects) and all(
        _is_strict_block(block.split("\n"), aspect.heading)
        for block, aspect in zip(blocks, aspects.aspects, strict=True)
    )


def render(items: Iterable[Item], aspects: AspectSet) -> str:
    """Write items in the strict grammar, empty aspects as the marker; `parse` is the inverse.

    Within an aspect the given order counts. ValueError for an item of an unknown aspect and for one
    that the grammar cannot hold: no title or text, white space around them, a newline, a title with
    angle brackets or that reads as the marker.
    """
    lines: dict[str, list[str]] = {key: [] for key in aspects.keys}
    for item in items:
        if item.aspect not in lines or not _fits(item):
            raise ValueError(f"the output grammar cannot hold {item!r}")
        lines[item.aspect].append(f"<{item.title}> {item.text}")
    return "".join(
        f"[{aspect.heading}]\n" + "\n".join(lines[aspect.key] or [EMPTY_LINE]) + "\n\n"
        for aspect in aspects.aspects
    )


def _is_strict_block(lines: list[str], heading: str) -> bool:
    body = lines[1:]
    if lines[0] != f"[{heading}]" or not body:
        return False
    return body == [EMPTY_LINE] or all(map(_is_item_line, body))


def _is_item_line(line: str) -> bool:
    match = _ITEM_LINE.fullmatch(line)
    blank = match is None or match[1].isspace() or match[2].isspace()
    return not blank and not line.startswith(EMPTY_MARKER)


def _fits(item: Item) -> bool:
    tight = item.title == item.title.strip() and item.text == item.text.strip()
    plain = not set("<>") & set(item.title)
    return (
        tight
        and plain
        and not _is_marker(item.title)
        and _is_item_line(f"<{item.title}> {item.text}")
    )


def _is_marker(text: str) -> bool:
    return normalise(text) in _MARKER_TITLES


@dataclass(slots=True)
class _OpenSpan:
    """A span in the making; an item's lines are collected in `texts`."""

    kind: SpanKind
    start: int
    end: int
    aspect: str | None = None
    title: str = ""
    texts: list[str] = field(default_factory=list)


class _Reader:
    """Goes through the lines once; `section` is the aspect that they belong to, if any."""

    def __init__(self, raw: str, aspects: AspectSet) -> None:
        self.raw = raw
        self.names = heading_names(aspects)
        self.pieces: list[_OpenSpan] = []
        self.seen: set[str] = set()
        self.section: str | None = None
        #: Does a plain line go on with the item before it?
        self.continues_item = False

    def read(self) -> None:
        for start, end in _lines(self.raw):
            if start == end:
                self.continues_item = False
            else:
                self._line(start, end)

    def _line(self, start: int, end: int) -> None:
        heading = find_heading(self.raw[start:end], self.names)
        if heading is None:
            self._content(start, end)
            return
        self.section = heading.aspect
        self.continues_item = False
        middle = start + heading.length
        if heading.aspect is None:
            self._unplaced(start, end)
            return
        self.seen.add(heading.aspect)
        self._add("heading", start, middle)
        rest = self.raw[middle:end].lstrip()
        if rest:
            self._content(end - len(rest), end)

    def _content(self, start: int, end: int) -> None:
        text = self.raw[start:end]
        bullet = _BULLET.match(text)
        body = text[bullet.end() :] if bullet else text
        title = _TITLE.match(body)
        if self.section is None:
            self._unplaced(start, end)
        elif title:
            name = (title[1] or title[2]).strip()
            self._titled_item(start, end, name, body[title.end() :].strip())
        elif not any(map(str.isalnum, text)):
            self._unplaced(start, end)
        elif _is_marker(body):
            self._add("marker", start, end)
        elif bullet or not self.continues_item:
            self._item(start, end, "", body)
        else:
            self.pieces[-1].end = end
            self.pieces[-1].texts.append(body)

    def _titled_item(self, start: int, end: int, title: str, text: str) -> None:
        if not _is_marker(title):
            self._item(start, end, title, text)
            return
        # What is said after a marker is an item; the marker stays on record.
        said = text.lstrip(" \t-") if any(map(str.isalnum, text)) else ""
        middle = end - len(said)
        self._add("marker", start, middle)
        if said:
            self._item(middle, end, "", said)

    def _item(self, start: int, end: int, title: str, text: str) -> None:
        self._add("item", start, end)
        self.pieces[-1].title = title
        self.pieces[-1].texts = [text] if text else []
        self.continues_item = True

    def _unplaced(self, start: int, end: int) -> None:
        self.continues_item = False
        if self.pieces and self.pieces[-1].kind == "unplaced":
            self.pieces[-1].end = end
        else:
            self.pieces.append(_OpenSpan("unplaced", start, end))

    def _add(self, kind: SpanKind, start: int, end: int) -> None:
        self.continues_item = False
        self.pieces.append(_OpenSpan(kind, start, end, self.section))


def _lines(raw: str) -> Iterator[tuple[int, int]]:
    """Offsets of each line without the white space around it; only a newline ends a line."""
    start = 0
    for line in raw.split("\n"):
        stripped = line.strip()
        first = start if stripped == line else start + line.find(stripped)
        yield first, first + len(stripped)
        start += len(line) + 1


def _number(pieces: list[_OpenSpan], aspects: AspectSet) -> Iterator[Item]:
    for key in aspects.keys:
        mine = (p for p in pieces if p.kind == "item" and p.aspect == key)
        for position, piece in enumerate(mine):
            yield Item(key, position, piece.title, " ".join(piece.texts))
