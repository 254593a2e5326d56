"""The characters of a PDF page with their boxes and styles.

Positions are in points from the page's top left corner, y growing downwards.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import pypdfium2.raw as pdfium_c

#: Sine of the angle: text at a larger angle is a margin stamp or an axis label, not prose.
MAX_SLANT = 0.2
#: Text rendering modes 3 and 7 of ISO 32000-1, 9.3.6: neither fill nor stroke.
INVISIBLE_MODES = (pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE, pdfium_c.FPDF_TEXTRENDERMODE_CLIP)
#: Characters that pdfium inserts between words and lines: space, line feed, carriage return.
_GENERATED = (32, 10, 13)


@dataclass(frozen=True, slots=True)
class Style:
    """The style of all characters of one text object.

    `size` is in points as printed, `grey` the lightness of the fill from 0 (black) to 255.
    """

    size: float
    bold: bool
    slanted: bool
    invisible: bool
    grey: float


@dataclass(slots=True)
class Glyph:
    char: str
    x0: float
    top: float
    x1: float
    bottom: float
    style: Style
    object_id: bytes
    #: Is there a space before this character, whatever the distance?
    after_space: bool = False

    def same_box(self, other: Glyph) -> bool:
        """Are both letters of one glyph?"""
        return (
            self.x0 == other.x0
            and self.x1 == other.x1
            and self.top == other.top
            and self.object_id == other.object_id
        )


@dataclass
class Frame:
    """The visible part of the page in PDF user space, whose y grows upwards."""

    left: float
    bottom: float
    right: float
    top: float
    #: Cached properties of text objects and fonts, by their addresses.
    styles: dict[bytes, Style] = field(default_factory=dict)
    bold_fonts: dict[bytes, bool] = field(default_factory=dict)


def read_glyphs(textpage: object, frame: Frame) -> Iterator[Glyph]:
    """All characters of a pdfium text page, in the order of the file; a ligature is one glyph."""
    box = pdfium_c.FS_RECTF()
    last: Glyph | None = None
    guessed = False
    for index in range(pdfium_c.FPDFText_CountChars(textpage)):
        code = pdfium_c.FPDFText_GetUnicode(textpage, index)
        if code in _GENERATED and pdfium_c.FPDFText_IsGenerated(textpage, index) == 1:
            guessed = True
            continue
        text_object = pdfium_c.FPDFText_GetTextObject(textpage, index)
        object_id = bytes(text_object)  # its address
        style = frame.styles.get(object_id)
        if style is None:
            style = frame.styles[object_id] = _style(textpage, index, text_object, frame)
        pdfium_c.FPDFText_GetLooseCharBox(textpage, index, box)
        high, low = box.top, box.bottom
        if high < low:
            high, low = low, high
        glyph = Glyph(
            "-" if code == 2 else chr(code),  # pdfium writes a hyphen at a line's end as U+0002
            box.left - frame.left,
            frame.top - high,
            box.right - frame.left,
            frame.top - low,
            style,
            object_id,
            # pdfium's spaces are right, except at a change of size ("I NTRODUCTION").
            after_space=guessed and last is not None and last.style.size == style.size,
        )
        guessed = False
        if last is not None and last.same_box(glyph):
            last.char += glyph.char  # the letters of one ligature
            continue
        if last is not None:
            yield last
        last = glyph
    if last is not None:
        yield last


def _style(textpage: object, index: int, text_object: object, frame: Frame) -> Style:
    matrix = pdfium_c.FS_MATRIX()
    pdfium_c.FPDFText_GetMatrix(textpage, index, matrix)
    scale = math.hypot(matrix.c, matrix.d)
    font = bytes(pdfium_c.FPDFTextObj_GetFont(text_object))  # its address
    bold = frame.bold_fonts.get(font)
    if bold is None:
        bold = frame.bold_fonts[font] = _is_bold(textpage, index)
    return Style(
        size=round(pdfium_c.FPDFText_GetFontSize(textpage, index) * scale, 1),
        bold=bold,
        slanted=abs(math.sin(math.atan2(matrix.b, matrix.a))) > MAX_SLANT,
        invisible=pdfium_c.FPDFTextObj_GetTextRenderMode(text_object) in INVISIBLE_MODES,
        grey=_grey(textpage, index),
    )


def _grey(textpage: object, index: int) -> float:
    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    pdfium_c.FPDFText_GetFillColor(textpage, index, red, green, blue, alpha)
    return 0.3 * red.value + 0.59 * green.value + 0.11 * blue.value


def _is_bold(textpage: object, index: int) -> bool:
    name = ctypes.create_string_buffer(128)
    pdfium_c.FPDFText_GetFontInfo(textpage, index, name, 128, ctypes.c_int())
    font = name.value.decode("latin-1").lower()
    marks = ("bold", "medi", "black", "heavy", "demi", "cmbx", "cmssbx", "-bd", "semibd")
    return any(mark in font for mark in marks) or font.split("+")[-1].startswith("sfbx")
