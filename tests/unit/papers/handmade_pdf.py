"""Writes small PDF files byte by byte, good and bad ones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELVETICA = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"


def line(x: float, y: float, text: str, size: float = 10, before: str = "") -> str:
    """Operators that show one line of text at a position from the page's lower left corner."""
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"q {before} BT /F1 {size} Tf {x} {y} Td ({escaped}) Tj ET Q\n"


def prose(sentence: str, first_y: float = 700, lines: int = 20) -> str:
    """A column of numbered lines, enough for a paper."""
    return "".join(line(72, first_y - 14 * i, f"{sentence} {i}.") for i in range(lines))


def pdf(
    contents: Sequence[str | bytes],
    *,
    encrypted: bool = False,
    image: bool = False,
    compressed: bool = False,
    page_entries: str = "/MediaBox [0 0 612 792]",
    pages_entries: str = "",
    catalog_entries: str = "",
    font: bytes = HELVETICA,
    others: dict[int, bytes] | None = None,
) -> bytes:
    """A PDF with one page for each content stream, in one font on 612 x 792 points.

    The entries are added to the pages, to the nodes above them (two levels) and to the catalog;
    `others` are further objects, numbered from 1,000.
    """
    kids = " ".join(f"{10 + 2 * index} 0 R" for index in range(len(contents)))
    resources = "<< /Font << /F1 3 0 R >>" + (" /XObject << /I1 4 0 R >>" if image else "") + " >>"
    objects: dict[int, bytes] = {
        1: f"<< /Type /Catalog /Pages 6 0 R {catalog_entries} >>".encode(),
        6: f"<< /Type /Pages /Count {len(contents)} /Kids [2 0 R] {pages_entries} >>".encode(),
        2: f"<< /Type /Pages /Parent 6 0 R /Count {len(contents)} /Kids [{kids}] >>".encode(),
        3: font,
        4: _stream(
            bytes(range(256)),
            "/Type /XObject /Subtype /Image /Width 16 /Height 16 /ColorSpace /DeviceGray"
            " /BitsPerComponent 8",
        ),
        5: b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (b"41" * 32, b"42" * 32),
    }
    for index, content in enumerate(contents):
        data = content if isinstance(content, bytes) else content.encode("cp1252")
        page, stream = 10 + 2 * index, 11 + 2 * index
        objects[page] = (
            f"<< /Type /Page /Parent 2 0 R {page_entries}"
            f" /Resources {resources} /Contents {stream} 0 R >>"
        ).encode()
        extra = "/Filter /FlateDecode" if compressed else ""
        objects[stream] = _stream(zlib.compress(data) if compressed else data, extra)
    objects |= others or {}
    return _file(objects, "/Encrypt 5 0 R /ID [<41> <41>]" if encrypted else "")


def _stream(data: bytes, extra: str = "") -> bytes:
    return f"<< /Length {len(data)} {extra} >>\nstream\n".encode() + data + b"\nendstream"


def type3_font(matrix: str, em: float, first: int = 32) -> tuple[bytes, dict[int, bytes]]:
    """A Type 3 font whose glyphs are bars, with `em` units in the size, and its glyph objects.

    Character `first` + n shows what WinAnsi shows at 32 + n; only the font's names say so when
    `first` is 32, and nothing does otherwise.
    """
    wide, high = 0.5 * em, 0.7 * em
    glyph = f"{wide} 0 0 0 {wide} {high} d1 0 0 {0.8 * wide} {high} re f"
    codes = range(32, 127)
    names = " ".join(f"/{_name(code) if first == 32 else f'a{code}'}" for code in codes)
    procedures = " ".join(f"{name} 1000 0 R" for name in names.split())
    last = first + len(codes) - 1
    font = (
        f"<< /Type /Font /Subtype /Type3 /FontMatrix [{matrix}] /FontBBox [0 0 0 0]"
        f" /FirstChar {first} /LastChar {last} /Widths [{f'{wide} ' * len(codes)}]"
        f" /Encoding << /Type /Encoding /Differences [{first} {names}] >>"
        f" /CharProcs << {procedures} >> >>"
    )
    return font.encode(), {1000: _stream(glyph.encode())}


def _name(code: int) -> str:
    names = {
        " ": "space",
        ".": "period",
        ",": "comma",
        **dict(zip("0123456789", DIGITS, strict=True)),
    }
    return chr(code) if chr(code).isalpha() else names.get(chr(code), f"a{code}")


def _file(objects: dict[int, bytes], trailer: str) -> bytes:
    out = bytearray(b"%PDF-1.4\n")
    offsets: dict[int, int] = {}
    for number, body in objects.items():
        offsets[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start, size = len(out), max(objects) + 1
    out += b"xref\n0 %d\n" % size
    for number in range(size):
        entry = b"%010d 00000 n \n" % offsets[number] if number in offsets else None
        out += entry or b"0000000000 65535 f \n"
    out += f"trailer\n<< /Size {size} /Root 1 0 R {trailer} >>\nstartxref\n{start}\n%%EOF".encode()
    return bytes(out)
