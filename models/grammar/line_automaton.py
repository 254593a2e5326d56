"""The lines that an aspect may hold, as a finite automaton over bytes; knows nothing of tokens.

    body     = marker | item+            (then a blank line)
    marker   = "<No related terms> -\\n\\n"
    item     = "<" title "> " text "\\n"
    title    = characters without "<" and ">", not the marker's name
    text     = any characters

Titles and texts are not empty and neither begin nor end with a space. Characters are valid UTF-8;
control characters and every white space but the plain space are kept out, so a line is a line to
every reader. Titles that read as the marker's name, in any case or in the singular, are rejected:
the marker is reached by the grammar alone, through `TAIL`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from models.text.aspects import EMPTY_LINE, EMPTY_MARKER

MARKER_NAME = EMPTY_MARKER[1:-1]
#: What follows the marker's ">".
MARKER_TAIL = EMPTY_LINE[len(EMPTY_MARKER) :] + "\n\n"
REJECT = -1


class Place(Enum):
    """Where in an aspect's body the text stands."""

    BODY = auto()  # before the first line
    LINE = auto()  # at the start of a later line
    NAME = auto()  # in a title that so far spells the beginning of the marker's name
    TITLE = auto()
    TITLE_SPACE = auto()
    CLOSED = auto()  # after a title's ">"
    GAP = auto()  # after "> "
    TEXT = auto()
    TEXT_SPACE = auto()
    BREAK = auto()  # after an item's newline; the next token starts at LINE
    TAIL = auto()  # after the marker's ">"
    DONE = auto()


@dataclass(frozen=True)
class Point:
    """A state: `done` counts bytes of the name or the tail, `pending` is half a character."""

    place: Place
    done: int = 0
    pending: bytes = b""


BODY, LINE, BREAK, DONE = (
    Point(place) for place in (Place.BODY, Place.LINE, Place.BREAK, Place.DONE)
)
TAIL = Point(Place.TAIL)
_TITLES = {Place.NAME, Place.TITLE, Place.TITLE_SPACE}
_TEXTS = {Place.GAP, Place.TEXT, Place.TEXT_SPACE}


def _unwanted(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) == "Cc"


_UNWANTED = [c.encode() for c in map(chr, range(0x80, 0x3001)) if _unwanted(c)]
#: First bytes whose second byte is restricted: overlong forms, surrogates, beyond U+10FFFF.
_NARROW = (b"\xe0", b"\xed", b"\xf0", b"\xf4")
#: Stand-ins for "one, two, three more bytes, whichever", to keep the automaton small.
_MISSING = {1: b"\xc3", 2: b"\xe5", 3: b"\xf1"}


def _missing(raw: bytes) -> int:
    return 2 + (raw[0] >= 0xE0) + (raw[0] >= 0xF0) - len(raw)


def _absorb(at: Point, byte: int) -> Point | None:
    """Take one byte of a character outside ASCII."""
    if at.place not in _TITLES | _TEXTS:
        return None
    place = Place.TITLE if at.place in _TITLES else Place.TEXT
    raw = at.pending + bytes([byte])
    try:
        return None if _unwanted(raw.decode()) else Point(place)
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return None
    if raw in _NARROW or any(sequence.startswith(raw) for sequence in _UNWANTED):
        return Point(place, pending=raw)
    return Point(place, pending=_MISSING[_missing(raw)])


def _in_title(at: Point, character: str) -> Point | None:
    spaced = at.place is Place.TITLE_SPACE or MARKER_NAME[: at.done].endswith(" ")
    empty = at.place is Place.NAME and at.done == 0
    marker = at.done >= len(MARKER_NAME) - 1  # the parser takes the singular for a slip
    if character == ">":
        return None if empty or spaced or marker else Point(Place.CLOSED)
    if character == "<" or (character == " " and empty):
        return None
    if at.place is Place.NAME and MARKER_NAME[at.done :].lower().startswith(character.lower()):
        return Point(Place.NAME, at.done + 1)
    return Point(Place.TITLE_SPACE if character == " " else Place.TITLE)


def _in_text(at: Point, character: str) -> Point | None:
    if character == " ":
        return None if at.place is Place.GAP else Point(Place.TEXT_SPACE)
    return Point(Place.TEXT)


def _newline(at: Point) -> Point | None:
    if at.place is Place.TEXT:
        return BREAK
    return DONE if at.place in (Place.LINE, Place.BREAK) else None


def _in_tail(at: Point, character: str) -> Point | None:
    if character != MARKER_TAIL[at.done]:
        return None
    return Point(Place.TAIL, at.done + 1) if at.done + 1 < len(MARKER_TAIL) else DONE


def step(at: Point, byte: int) -> Point | None:
    """The state after one more byte; None when no legal body begins so."""
    if at.pending or byte >= 0x80:
        return _absorb(at, byte)
    character = chr(byte)
    if at.place is Place.TAIL:
        return _in_tail(at, character)
    if character == "\n":
        return _newline(at)
    if _unwanted(character) and character != " ":
        return None
    if at.place in (Place.BODY, Place.LINE):
        return Point(Place.NAME) if character == "<" else None
    if at.place is Place.CLOSED:
        return Point(Place.GAP) if character == " " else None
    if at.place in _TITLES:
        return _in_title(at, character)
    return _in_text(at, character) if at.place in _TEXTS else None


class LineAutomaton:
    """Every reachable `Point`, numbered, with its 256 transitions."""

    def __init__(self) -> None:
        self.points: list[Point] = [BODY, LINE, TAIL]
        rows = []
        for point in self.points:  # grows while it is walked
            targets = [step(point, byte) for byte in range(256)]
            self.points += [t for t in dict.fromkeys(targets) if t and t not in self.points]
            rows.append([self.points.index(t) if t else REJECT for t in targets])
        #: [states + 1, 256]; the last row keeps rejects rejected, as index -1 reads it.
        self.delta: NDArray[np.int16] = np.array([*rows, [REJECT] * 256], dtype=np.int16)

    def number(self, point: Point) -> int:
        """The state's index in `delta`."""
        return self.points.index(point)

    def run(self, pieces: Sequence[bytes | None]) -> NDArray[np.int16]:
        """The state that each piece leads to from each state: [pieces, states], -1 for reject."""
        lengths = np.array([len(piece or b"") for piece in pieces])
        text = np.frombuffer(b"".join(piece or b"" for piece in pieces), dtype=np.uint8)
        starts = np.cumsum(lengths) - lengths
        states = np.tile(np.arange(len(self.points), dtype=np.int16), (len(pieces), 1))
        states[lengths == 0] = REJECT  # a token that adds no text could be repeated for ever
        for offset in range(int(lengths.max())):
            rows = np.flatnonzero(lengths > offset)
            states[rows] = self.delta[states[rows], text[starts[rows] + offset][:, None]]
        return states
