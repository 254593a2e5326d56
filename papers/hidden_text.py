"""Separate the visible text of a page from hidden text.

Hidden text cannot be seen on the printed page: it has no ink, no contrast with what is behind it or
painted over it, is off the page, or is smaller than print.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pypdfium2 as pdfium

from papers.glyphs import Glyph

#: Points; smaller text cannot be read on paper, nor on a screen at 100 %.
TINY_PT = 1.5
#: Grey levels of 255; a text box whose darkest and lightest pixels differ by less shows nothing.
CONTRAST = 6
#: Grey levels; lighter text is tested again: over dark text its box has contrast of other text.
LIGHT, LIGHT_CONTRAST = 200, 24
#: Pixels of the longer page side when a page is rendered to look for invisible text.
RENDER_PX = 1600
#: Share of the page that an image covers when the invisible text above it is a scan's OCR layer.
SCAN_AREA = 0.6


@dataclass(frozen=True)
class Hidden:
    """Hidden text and the reason why it cannot be seen."""

    reason: str
    text: str


@dataclass
class Raster:
    """The page in grey levels, to test whether a box shows anything."""

    pixels: memoryview
    width: int
    height: int
    stride: int
    scale: float

    def shows(self, x0: float, top: float, x1: float, bottom: float) -> bool:
        left, right = max(0, int(x0 * self.scale)), min(self.width, math.ceil(x1 * self.scale) + 1)
        first, last = max(0, int(top * self.scale)), min(self.height, int(bottom * self.scale) + 2)
        if left >= right or first >= last:
            return False
        low, high = 255, 0
        middle = (first + last) // 2
        for y in (*range(middle, last), *range(first, middle)):
            row = bytes(self.pixels[y * self.stride + left : y * self.stride + right])
            low, high = min(low, min(row)), max(high, max(row))
            if high - low >= CONTRAST:
                return True
        return False

    def is_mostly(self, grey: float, x0: float, top: float, x1: float, bottom: float) -> bool:
        """Do most pixels of the box have this lightness?"""
        left, right = max(0, int(x0 * self.scale)), min(self.width, math.ceil(x1 * self.scale) + 1)
        rows = range(max(0, int(top * self.scale)), min(self.height, int(bottom * self.scale) + 2))
        pixels = b"".join(
            bytes(self.pixels[y * self.stride + left : y * self.stride + right]) for y in rows
        )
        return abs(sorted(pixels)[len(pixels) // 2] - grey) < LIGHT_CONTRAST


def render(page: pdfium.PdfPage, width: float, height: float, unit: float = 1.0) -> Raster:
    """The page in grey levels; `width` and `height` are its visible size in points.

    `unit` is the number of points in a unit of the page's user space.
    """
    scale = min(1.0, RENDER_PX / max(width, height, 1.0))
    bitmap = page.render(scale=scale * unit, grayscale=True, may_draw_forms=False)
    pixels = memoryview(bytes(bitmap.buffer))
    return Raster(pixels, bitmap.width, bitmap.height, bitmap.stride, scale)


def is_scan(glyphs: list[Glyph], image_share: float) -> bool:
    """Is the page an image with recognised text laid over it?"""
    invisible = sum(glyph.style.invisible for glyph in glyphs)
    return image_share >= SCAN_AREA and invisible > 0.9 * len(glyphs)


def split_hidden(
    glyphs: list[Glyph], raster: Raster, size: tuple[float, float], scanned: bool
) -> tuple[list[Glyph], list[Hidden]]:
    """The visible characters, and the hidden text by reason."""
    shown: list[Glyph] = []
    texts: dict[str, list[str]] = {}
    for group in _objects(glyphs):
        reason = _hidden_reason(group, raster, size, scanned)
        if reason is None:
            shown += group
        else:
            texts.setdefault(reason, []).append("".join(glyph.char for glyph in group))
    return shown, [Hidden(reason, " ".join(parts)) for reason, parts in texts.items()]


def _objects(glyphs: list[Glyph]) -> Iterator[list[Glyph]]:
    group: list[Glyph] = []
    for glyph in glyphs:
        if group and glyph.object_id != group[-1].object_id:
            yield group
            group = []
        group.append(glyph)
    if group:
        yield group


def _hidden_reason(
    group: list[Glyph], raster: Raster, size: tuple[float, float], scanned: bool
) -> str | None:
    inked = [glyph for glyph in group if not glyph.char.isspace()]
    if not inked or scanned:
        return None
    x0, x1 = min(glyph.x0 for glyph in inked), max(glyph.x1 for glyph in inked)
    top, bottom = min(glyph.top for glyph in inked), max(glyph.bottom for glyph in inked)
    if x1 <= 0 or bottom <= 0 or x0 >= size[0] or top >= size[1]:
        return "off the page"
    if inked[0].style.invisible:
        return "invisible render mode"
    if 0 < inked[0].style.size < TINY_PT:
        return "tiny"
    box = (x0, top, x1, bottom)
    grey = inked[0].style.grey
    if raster.shows(*box) and not (grey > LIGHT and raster.is_mostly(grey, *box)):
        return None
    return "no contrast with its background"
