"""Split reviews into sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: A full stop after one of these does not end a sentence.
_ABBREVIATIONS = re.compile(
    r"(?:\b(?:e\.?g|i\.?e|etc|cf|vs|al|fig|figs|eq|eqs|eqn|sec|sect|tab|ref|refs|no|resp|approx"
    r"|dr|prof|pg|pp|p|w\.r\.t|i\.i\.d|a\.k\.a|st|def|thm|prop|ch)|\b[A-Z])\.$",
    re.IGNORECASE,
)
_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s|$)|\n+")


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """[start, end) of each sentence, without white space around it."""
    stop = len(text) if end is None else end
    begin = start
    for match in _END.finditer(text, start, stop):
        head = text[begin : match.end()]
        if not any(map(str.isalpha, head)):
            continue  # the number of what follows
        follows = text[match.end() : match.end() + 2].lstrip()[:1]
        if "\n" not in match[0] and (_ABBREVIATIONS.search(head) or follows.islower()):
            continue
        yield from _trimmed(text, begin, match.end())
        begin = match.end()
    yield from _trimmed(text, begin, stop)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    piece = text[start:end]
    left = start + len(piece) - len(piece.lstrip())
    right = left + len(piece.strip())
    if right > left:
        yield left, right
