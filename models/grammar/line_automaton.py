"""The lines that an aspect may hold, as a finite automaton over bytes.

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


class StateKind(Enum):
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
class LineState:
    """A state: `done` counts bytes of the name or the tail, `pending` is half a character."""

    kind: StateKind
    done: int = 0
    pending: bytes = b""


BODY, LINE, BREAK, DONE = (
    LineState(kind) for kind in (StateKind.BODY, StateKind.LINE, StateKind.BREAK, StateKind.DONE)
)
TAIL = LineState(StateKind.TAIL)
_TITLES = {StateKind.NAME, StateKind.TITLE, StateKind.TITLE_SPACE}
_TEXTS = {StateKind.GAP, StateKind.TEXT, StateKind.TEXT_SPACE}


def _is_forbidden(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) == "Cc"


_FORBIDDEN = [c.encode() for c in map(chr, range(0x80, 0x3001)) if _is_forbidden(c)]
#: First bytes whose second byte is restricted: overlong forms, surrogates, beyond U+10FFFF.
_NARROW = (b"\xe0", b"\xed", b"\xf0", b"\xf4")
#: Stand-ins for "one, two, three more bytes, whichever", to keep the automaton small.
_MISSING = {1: b"\xc3", 2: b"\xe5", 3: b"\xf1"}


def _missing(raw: bytes) -> int:
    return 2 + (raw[0] >= 0xE0) + (raw[0] >= 0xF0) - len(raw)


def _multibyte(state: LineState, byte: int) -> LineState | None:
    """Take one byte of a character outside ASCII."""
    if state.kind not in _TITLES | _TEXTS:
        return None
    kind = StateKind.TITLE if state.kind in _TITLES else StateKind.TEXT
    raw = state.pending + bytes([byte])
    try:
        return None if _is_forbidden(raw.decode()) else LineState(kind)
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return None
    if raw in _NARROW or any(sequence.startswith(raw) for sequence in _FORBIDDEN):
        return LineState(kind, pending=raw)
    return LineState(kind, pending=_MISSING[_missing(raw)])


def _in_title(state: LineState, character: str) -> LineState | None:
    spaced = state.kind is StateKind.TITLE_SPACE or MARKER_NAME[: state.done].endswith(" ")
    empty = state.kind is StateKind.NAME and state.done == 0
    marker = state.done >= len(MARKER_NAME) - 1  # the parser takes the singular for a slip
    if character == ">":
        return None if empty or spaced or marker else LineState(StateKind.CLOSED)
    if character == "<" or (character == " " and empty):
        return None
    if state.kind is StateKind.NAME and MARKER_NAME[state.done :].lower().startswith(
        character.lower()
    ):
        return LineState(StateKind.NAME, state.done + 1)
    return LineState(StateKind.TITLE_SPACE if character == " " else StateKind.TITLE)


def _in_text(state: LineState, character: str) -> LineState | None:
    if character == " ":
        return None if state.kind is StateKind.GAP else LineState(StateKind.TEXT_SPACE)
    return LineState(StateKind.TEXT)


def _newline(state: LineState) -> LineState | None:
    if state.kind is StateKind.TEXT:
        return BREAK
    return DONE if state.kind in (StateKind.LINE, StateKind.BREAK) else None


def _in_tail(state: LineState, character: str) -> LineState | None:
    if character != MARKER_TAIL[state.done]:
        return None
    return LineState(StateKind.TAIL, state.done + 1) if state.done + 1 < len(MARKER_TAIL) else DONE


def step(state: LineState, byte: int) -> LineState | None:
    """The state after one more byte; None when no legal body begins so."""
    if state.pending or byte >= 0x80:
        return _multibyte(state, byte)
    character = chr(byte)
    if state.kind is StateKind.TAIL:
        return _in_tail(state, character)
    if character == "\n":
        return _newline(state)
    if _is_forbidden(character) and character != " ":
        return None
    if state.kind in (StateKind.BODY, StateKind.LINE):
        return LineState(StateKind.NAME) if character == "<" else None
    if state.kind is StateKind.CLOSED:
        return LineState(StateKind.GAP) if character == " " else None
    if state.kind in _TITLES:
        return _in_title(state, character)
    return _in_text(state, character) if state.kind in _TEXTS else None


class LineAutomaton:
    """Every reachable `LineState`, numbered, with its 256 transitions."""

    def __init__(self) -> None:
        self.line_states: list[LineState] = [BODY, LINE, TAIL]
        rows = []
        for state in self.line_states:  # grows while it is walked
            targets = [step(state, byte) for byte in range(256)]
            self.line_states += [
                t for t in dict.fromkeys(targets) if t and t not in self.line_states
            ]
            rows.append([self.line_states.index(t) if t else REJECT for t in targets])
        #: [states + 1, 256]; the last row keeps rejects rejected, as index -1 reads it.
        self.delta: NDArray[np.int16] = np.array([*rows, [REJECT] * 256], dtype=np.int16)

    def number(self, state: LineState) -> int:
        """The state's index in `delta`."""
        return self.line_states.index(state)

    def run(self, pieces: Sequence[bytes | None]) -> NDArray[np.int16]:
        """The state that each piece leads to from each state: [pieces, states], -1 for reject."""
        lengths = np.array([len(piece or b"") for piece in pieces])
        text = np.frombuffer(b"".join(piece or b"" for piece in pieces), dtype=np.uint8)
        starts = np.cumsum(lengths) - lengths
        states = np.tile(np.arange(len(self.line_states), dtype=np.int16), (len(pieces), 1))
        states[lengths == 0] = REJECT  # a token that adds no text could be repeated for ever
        for offset in range(int(lengths.max())):
            rows = np.flatnonzero(lengths > offset)
            states[rows] = self.delta[states[rows], text[starts[rows] + offset][:, None]]
        return states
