"""Read one PDF page: runs of text, drawn rules and hidden text.

Positions are in points from the top left corner, y growing downwards.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from papers.glyphs import Frame, read_glyphs
from papers.hidden_text import Hidden, is_scan, render, split_hidden
from papers.text_runs import TextRun, to_runs, upright

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
    """The content of one page. `number` counts from 1."""

    number: int
    width: float
    height: float
    runs: list[TextRun]
    rules: list[Rule]
    hidden: list[Hidden]
    scanned: bool = False


def read_page(document: pdfium.PdfDocument, index: int) -> Page:
    """Read page `index` (from 0). Raises pypdfium2.PdfiumError when the page is broken."""
    page = document[index]
    page.set_rotation(0)
    frame = Frame(*page.get_cropbox())
    textpage = page.get_textpage()
    glyphs = list(read_glyphs(textpage.raw, frame))
    rules, image_area = _drawings(page, frame)
    width, height = frame.right - frame.left, frame.top - frame.bottom
    scanned = is_scan(glyphs, image_area / max(1.0, width * height))
    shown, hidden = split_hidden(glyphs, render(page, width, height), (width, height), scanned)
    runs = list(to_runs(upright(shown, width)))
    return Page(index + 1, width, height, runs, rules, hidden, scanned)


def _drawings(page: pdfium.PdfPage, frame: Frame) -> tuple[list[Rule], float]:
    """The rules, and the area of the largest image."""
    rules: list[Rule] = []
    image_area = 0.0
    for kind, (left, bottom, right, top) in _bounds(page):
        if kind == pdfium_c.FPDF_PAGEOBJ_IMAGE:
            image_area = max(image_area, (right - left) * (top - bottom))
        elif top - bottom < RULE_HEIGHT and right - left > RULE_LENGTH:
            rules.append(Rule(left - frame.left, right - frame.left, frame.top - top))
    return rules, image_area


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
