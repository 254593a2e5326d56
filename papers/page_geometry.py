"""The visible part of a PDF page, its unit and its reading direction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pypdfium2 as pdfium

from papers.glyphs import Box, Frame, Glyph

#: Units; the longer side of a smaller page is displayed as if it had this paper's height. pdfium
#: does not tell /UserUnit, and viewers enlarge such a page to the window with or without it.
SMALL_PAGE, PAPER_HEIGHT = 400.0, 792.0
#: Share of the characters that decides that a page is read in another direction than displayed.
TURNED = 0.8


def visible_frame(page: pdfium.PdfPage) -> Frame:
    """The intersection of CropBox and MediaBox, both possibly inherited from /Pages."""
    left, bottom, right, top = page.get_bbox()
    longer = max(right - left, top - bottom)
    unit = PAPER_HEIGHT / longer if 0 < longer < SMALL_PAGE else 1.0
    return Frame(left, bottom, right, top, unit)


@dataclass(frozen=True)
class Turn:
    """A rotation of a page by quarter turns, so that text with this direction becomes upright.

    `quarters` counts anticlockwise turns of the text; `width` and `height` are the unturned page's.
    """

    quarters: int
    width: float
    height: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the turned page."""
        return (self.width, self.height) if self.quarters % 2 == 0 else (self.height, self.width)

    def box(self, x0: float, top: float, x1: float, bottom: float) -> Box:
        """The turned box, as (x0, top, x1, bottom)."""
        match self.quarters:
            case 1:
                return self.height - bottom, x0, self.height - top, x1
            case 2:
                return self.width - x1, self.height - bottom, self.width - x0, self.height - top
            case 3:
                return top, self.width - x1, bottom, self.width - x0
            case _:
                return x0, top, x1, bottom


def reading_direction(glyphs: Sequence[Glyph], displayed: int) -> int:
    """The direction of the page's text in quarter turns: as displayed, or that of most of it."""
    counts = Counter(glyph.style.turn for glyph in glyphs)
    turn, count = counts.most_common(1)[0] if counts else (None, 0)
    return turn if turn is not None and count > TURNED * len(glyphs) else displayed


def upright(glyphs: Sequence[Glyph], turn: Turn) -> list[Glyph]:
    """The characters of this direction on the turned page; text in other directions is dropped."""
    kept = [glyph for glyph in glyphs if glyph.style.turn == turn.quarters]
    if turn.quarters:
        for glyph in kept:
            box = turn.box(glyph.x0, glyph.top, glyph.x1, glyph.bottom)
            glyph.x0, glyph.top, glyph.x1, glyph.bottom = box
    return kept
