"""Read one PDF page: runs of text, drawn rules and hidden text.

Positions are in points from the top left corner, y growing downwards.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from papers.glyphs import Box, Frame, Glyph, read_glyphs
from papers.hidden_text import Hidden, is_scan, render, split_hidden
from papers.page_geometry import Turn, reading_direction, upright, visible_frame
from papers.text_runs import TextRun, to_runs

#: Points; a thinner and longer path is a rule.
RULE_HEIGHT, RULE_LENGTH = 2.0, 20.0


@dataclass(frozen=True, slots=True)
class Rule:
    """A thin horizontal line drawn on the page."""

    x0: float
    x1: float
    y: float


@dataclass(frozen=True)
class Page:
    """The content of one page. `number` counts from 1.

    `unmapped` is the text in fonts that do not say which characters their glyphs show.
    """

    number: int
    width: float
    height: float
    runs: list[TextRun]
    rules: list[Rule]
    hidden: list[Hidden]
    scanned: bool = False
    unmapped: str = ""


def read_page(document: pdfium.PdfDocument, index: int) -> Page:
    """Read page `index` (from 0). Raises pypdfium2.PdfiumError when the page is broken."""
    page = document[index]
    displayed = page.get_rotation() // 90
    page.set_rotation(0)
    frame = visible_frame(page)
    textpage = page.get_textpage()
    glyphs = list(read_glyphs(textpage.raw, frame))
    paths, image_area = _drawings(page, frame)
    width, height = frame.size
    scanned = is_scan(glyphs, image_area / max(1.0, width * height))
    raster = render(page, width, height, frame.unit)
    shown, hidden = split_hidden(glyphs, raster, (width, height), scanned)
    turn = Turn(reading_direction(shown, displayed), width, height)
    return Page(
        index + 1,
        *turn.size,
        runs=list(to_runs(upright(shown, turn))),
        rules=list(_rules(paths, turn)),
        hidden=hidden,
        scanned=scanned,
        unmapped=_unmapped(shown),
    )


def _unmapped(glyphs: Sequence[Glyph]) -> str:
    return "".join(
        " " * glyph.after_space + glyph.char for glyph in glyphs if not glyph.style.mapped
    )


def _rules(paths: Sequence[Box], turn: Turn) -> Iterator[Rule]:
    for path in paths:
        x0, top, x1, bottom = turn.box(*path)
        if bottom - top < RULE_HEIGHT and x1 - x0 > RULE_LENGTH:
            yield Rule(x0, x1, top)


def _drawings(page: pdfium.PdfPage, frame: Frame) -> tuple[list[Box], float]:
    """The thin paths, and the area of the largest image."""
    paths: list[Box] = []
    image_area = 0.0
    for kind, (left, bottom, right, top) in _bounds(page):
        box = frame.box(left, bottom, right, top)
        width, height = box[2] - box[0], box[3] - box[1]
        if kind == pdfium_c.FPDF_PAGEOBJ_IMAGE:
            image_area = max(image_area, width * height)
        elif min(width, height) < RULE_HEIGHT and max(width, height) > RULE_LENGTH:
            paths.append(box)
    return paths, image_area


def _bounds(page: pdfium.PdfPage) -> Iterator[tuple[int, tuple[float, float, float, float]]]:
    # The library's own iterator creates an object for each letter of some files.
    edges = [ctypes.c_float() for _ in range(4)]
    for index in range(pdfium_c.FPDFPage_CountObjects(page)):
        item = pdfium_c.FPDFPage_GetObject(page, index)
        kind = pdfium_c.FPDFPageObj_GetType(item)
        if kind in (pdfium_c.FPDF_PAGEOBJ_PATH, pdfium_c.FPDF_PAGEOBJ_IMAGE):
            pdfium_c.FPDFPageObj_GetBounds(item, *edges)
            left, bottom, right, top = (edge.value for edge in edges)
            yield kind, (left, bottom, right, top)
