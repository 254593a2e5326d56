"""The characters of a PDF page with their boxes and styles.

Positions are in points from the page's top left corner, y growing downwards.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import pypdfium2.raw as pdfium_c

#: x0, top, x1, bottom in points.
Box = tuple[float, float, float, float]

#: Sine of the angle to the nearest quarter turn: text at a larger angle is a stamp, not prose.
MAX_SLANT = 0.2
#: Height of capital letters in units of the font size.
CAPITAL_HEIGHT = 0.7
#: A font whose letters are painted larger or smaller by these factors has a matrix of its own.
PAINTED_RATIO = (0.6, 1.7)
#: Letters of a font that are measured.
MEASURED_LETTERS = 40
#: Codes of the ligatures and dashes in TeX's fonts (encodings OT1 and T1), which bitmap fonts
#: show without a name.
_TEX_CODES = {
    **dict(zip(range(0x0B, 0x10), ("ff", "fi", "fl", "ffi", "ffl"), strict=True)),
    **dict(zip(range(0x1B, 0x20), ("ff", "fi", "fl", "ffi", "ffl"), strict=True)),
    0x15: "–",
    0x16: "—",
}
#: Text rendering modes 3 and 7 of ISO 32000-1, 9.3.6: neither fill nor stroke.
INVISIBLE_MODES = (pdfium_c.FPDF_TEXTRENDERMODE_INVISIBLE, pdfium_c.FPDF_TEXTRENDERMODE_CLIP)
#: Characters that pdfium inserts between words and lines: space, line feed, carriage return.
_GENERATED = (32, 10, 13)


@dataclass(frozen=True, slots=True)
class Style:
    """The style of all characters of one text object.

    `size` is in points as printed, `grey` the lightness of the fill from 0 (black) to 255. `turn`
    is the direction in quarter turns anticlockwise, None for oblique text. `mapped` is False when
    the font does not say which characters its glyphs show.
    """

    size: float
    bold: bool
    turn: int | None
    invisible: bool
    grey: float
    mapped: bool = True
    #: Is it a Type 3 font without names of characters, such as TeX's bitmap fonts?
    bitmap: bool = False


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
    #: Points in a unit of user space.
    unit: float = 1.0
    #: Cached properties of text objects and fonts, by their addresses.
    styles: dict[bytes, Style] = field(default_factory=dict)
    bold_fonts: dict[bytes, bool] = field(default_factory=dict)
    painted: dict[bytes, float] = field(default_factory=dict)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in points."""
        return (self.right - self.left) * self.unit, (self.top - self.bottom) * self.unit

    def box(self, left: float, bottom: float, right: float, top: float) -> Box:
        """A box of user space in points from the top left corner, as (x0, top, x1, bottom)."""
        return (
            (left - self.left) * self.unit,
            (self.top - top) * self.unit,
            (right - self.left) * self.unit,
            (self.top - bottom) * self.unit,
        )


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
            _char(code, style),
            *frame.box(box.left, low, box.right, high),
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


def _char(code: int, style: Style) -> str:
    if code == 2:  # pdfium's code for a hyphen at a line's end
        return "-"
    if code < 32 and style.bitmap:
        return _TEX_CODES.get(code, chr(code))
    return chr(code)


def _style(textpage: object, index: int, text_object: object, frame: Frame) -> Style:
    matrix = pdfium_c.FS_MATRIX()
    pdfium_c.FPDFText_GetMatrix(textpage, index, matrix)
    scale = math.hypot(matrix.c, matrix.d)
    font = bytes(pdfium_c.FPDFTextObj_GetFont(text_object))  # its address
    bold = frame.bold_fonts.get(font)
    if bold is None:
        bold = frame.bold_fonts[font] = _is_bold(textpage, index)
    nominal = pdfium_c.FPDFText_GetFontSize(textpage, index) * scale
    mapped = pdfium_c.FPDFText_HasUnicodeMapError(textpage, index) != 1
    type3 = _is_type3(text_object)
    if type3:
        if font not in frame.painted:
            frame.painted[font] = _painted_ratio(textpage, index, font)
        nominal *= frame.painted[font]
    return Style(
        size=round(nominal * frame.unit, 1),
        bold=bold,
        turn=_turn(matrix),
        mapped=mapped,
        bitmap=type3 and not mapped,
        invisible=pdfium_c.FPDFTextObj_GetTextRenderMode(text_object) in INVISIBLE_MODES,
        grey=_grey(textpage, index),
    )


def _is_type3(text_object: object) -> bool:
    """Type 3 fonts are the only ones without a name (ISO 32000-1, table 112)."""
    font = pdfium_c.FPDFTextObj_GetFont(text_object)
    return bool(pdfium_c.FPDFFont_GetBaseFontName(font, None, 0) <= 1)


def _turn(matrix: pdfium_c.FS_MATRIX) -> int | None:
    quarters = math.atan2(matrix.b, matrix.a) / (math.pi / 2)
    slant = abs(math.sin((quarters - round(quarters)) * math.pi / 2))
    return round(quarters) % 4 if slant <= MAX_SLANT else None


def _painted_ratio(textpage: object, first: int, font: bytes) -> float:
    """How many times larger than its nominal size the font is painted.

    A Type 3 font has its own FontMatrix, which pdfium's font size leaves out.
    """
    heights: list[float] = []
    edges = [ctypes.c_double() for _ in range(4)]
    for index in range(first, pdfium_c.FPDFText_CountChars(textpage)):
        if not chr(pdfium_c.FPDFText_GetUnicode(textpage, index)).isalnum():
            continue
        text_object = pdfium_c.FPDFText_GetTextObject(textpage, index)
        if not text_object or bytes(pdfium_c.FPDFTextObj_GetFont(text_object)) != font:
            if len(heights) < MEASURED_LETTERS and index < first + 50 * MEASURED_LETTERS:
                continue
            break
        matrix = pdfium_c.FS_MATRIX()
        pdfium_c.FPDFText_GetMatrix(textpage, index, matrix)
        size = pdfium_c.FPDFText_GetFontSize(textpage, index) * math.hypot(matrix.c, matrix.d)
        if size > 0 and abs(matrix.b) < MAX_SLANT * abs(matrix.a):
            pdfium_c.FPDFText_GetCharBox(textpage, index, *edges)
            heights.append((edges[3].value - edges[2].value) / size)
        if len(heights) >= MEASURED_LETTERS:
            break
    if not heights:
        return 1.0
    ratio = sorted(heights)[len(heights) * 9 // 10] / CAPITAL_HEIGHT
    return ratio if ratio > 0 and not PAINTED_RATIO[0] < ratio < PAINTED_RATIO[1] else 1.0


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
