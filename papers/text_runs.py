"""Group characters into runs of words on one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from papers.glyphs import Glyph

#: In units of the font size: a wider gap in a line separates words, or runs.
WORD_GAP, RUN_GAP = 0.14, 1.0
#: In units of the smaller font size: a wider gap may separate a line number from its line.
NUMBER_GAP = 0.4
#: pdfium's code for a glyph that the font maps to no character.
_UNMAPPED = frozenset("\x00\ufffe\uffff")
#: One of these raised after a word refers to a footnote; after a formula it is an exponent.
_NOTE_MARKS = frozenset("0123456789*∗†‡§¶")
_DIGITS = frozenset("0123456789")
_BEFORE_NOTE = re.compile(r"([^\W\d_]{3}|[^\W\d_][.,;:!?)”\"'’]+)$")


@dataclass(slots=True)
class TextRun:
    """Neighbouring characters of one line. `size` is the font size of most of its characters.

    `parts` are the run's number at its start or end, such as a line number, and the rest.
    """

    x0: float
    top: float
    x1: float
    bottom: float
    size: float
    bold: bool
    text: str
    parts: tuple[TextRun, ...] = ()

    @property
    def height(self) -> float:
        """Points from top to bottom."""
        return self.bottom - self.top


def to_runs(glyphs: list[Glyph]) -> Iterator[TextRun]:
    """Join neighbouring characters, in the order of the file."""
    line: list[Glyph] = []
    after_space = False
    for glyph in glyphs:
        if glyph.char.isspace() or glyph.char in _UNMAPPED:
            after_space = True
            continue
        glyph.after_space, after_space = glyph.after_space or after_space, False
        if line and not _continues(line[-1], glyph):
            yield _with_parts(line)
            line = []
        line.append(glyph)
    if line:
        yield _with_parts(line)


def _continues(last: Glyph, glyph: Glyph) -> bool:
    size = max(last.style.size, glyph.style.size, 1.0)
    overlap = min(last.bottom, glyph.bottom) - max(last.top, glyph.top)
    smaller = min(last.bottom - last.top, glyph.bottom - glyph.top)
    return overlap > 0.3 * smaller and -0.6 * size < glyph.x0 - last.x1 < RUN_GAP * size


def _with_parts(line: list[Glyph]) -> TextRun:
    run = _run(line)
    cuts = [0, *sorted({_after_number(line), _before_number(line)} - {0, len(line)}), len(line)]
    if len(cuts) > 2:
        run.parts = tuple(_run(line[start:end]) for start, end in pairwise(cuts))
    return run


def _after_number(line: list[Glyph]) -> int:
    """The end of a number at the start of the line that stands apart from the rest, else 0."""
    for index, glyph in enumerate(line):
        if index and _is_far(line[index - 1], glyph):
            return index
        if glyph.char not in _DIGITS:
            return 0
    return 0


def _before_number(line: list[Glyph]) -> int:
    """The start of a number at the end of the line that stands apart from the rest, else 0."""
    for index in range(len(line) - 1, 0, -1):
        if line[index].char not in _DIGITS:
            return 0
        if _is_far(line[index - 1], line[index]):
            return index
    return 0


def _is_far(last: Glyph, glyph: Glyph) -> bool:
    return glyph.x0 - last.x1 > NUMBER_GAP * min(last.style.size, glyph.style.size)


def _run(line: list[Glyph]) -> TextRun:
    sizes: dict[float, int] = {}
    for glyph in line:
        sizes[glyph.style.size] = sizes.get(glyph.style.size, 0) + 1
    size = max(sizes, key=lambda value: (sizes[value], value))
    main = [glyph for glyph in line if glyph.style.size == size]
    return TextRun(
        x0=min(glyph.x0 for glyph in line),
        # The median: boxes of symbol fonts extend far above and below their line.
        top=sorted(glyph.top for glyph in main)[len(main) // 2],
        x1=max(glyph.x1 for glyph in line),
        bottom=sorted(glyph.bottom for glyph in main)[len(main) // 2],
        size=size,
        bold=sum(glyph.style.bold for glyph in line) > 0.6 * len(line),
        text=_text(line, size),
    )


def _text(line: list[Glyph], size: float) -> str:
    text = ""
    base = sorted(glyph.bottom for glyph in line)[len(line) // 2]
    for last, glyph in zip([None, *line], line, strict=False):
        if _is_note_mark(glyph, size, base) and _BEFORE_NOTE.search(text, len(text) - 6):
            continue
        if last is not None and _apart(last, glyph, size):
            text += " "
        text += glyph.char
    return text


def _apart(last: Glyph, glyph: Glyph, size: float) -> bool:
    wide = WORD_GAP * min(size, max(last.style.size, glyph.style.size))
    return glyph.after_space or glyph.x0 - last.x1 > wide


def _is_note_mark(glyph: Glyph, size: float, base: float) -> bool:
    raised = glyph.bottom < base - 0.15 * size
    return raised and glyph.style.size < 0.85 * size and glyph.char in _NOTE_MARKS
