"""Decode bytes as text: the one place where every reader of text decides the encoding.

In this order: gzip is unpacked; a byte order mark decides; bytes that are UTF-8 are UTF-8; zero
bytes at every second place are UTF-16; what a TeX source declares with `inputenc` holds; a legacy
encoding is detected and flagged. What then holds controls in place of text is refused.
"""

from __future__ import annotations

import codecs
import re
import zlib

from errors import PaperUnreadable
from papers.paper import Flag

#: Bytes; the longest papers with all appendices stay under 1 MB of text.
MAX_TEXT_BYTES = 20 * 2**20
#: Share of control characters above which a file is not text.
MAX_CONTROLS = 0.02
#: Bytes at the beginning of a file by which its encoding is recognised.
HEAD_BYTES = 4096
#: Bytes of a legacy text that are examined to detect its encoding.
DETECTION_BYTES = 64 * 2**10
#: Bytes above ASCII from which on Central European text is told from Western European.
MIN_CENTRAL_EUROPEAN = 20
GZIP_MARK = b"\x1f\x8b"

_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r\f\b\x1b")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_INPUTENC = re.compile(rb"^[^%\n]*\\usepackage\s*\[([a-z0-9]{2,12})\]\s*\{inputenc\}", re.M)
#: Names of `inputenc` and Python's names for them.
_DECLARED = {
    b"latin1": "latin-1",
    b"latin2": "iso8859-2",
    b"latin3": "iso8859-3",
    b"latin4": "iso8859-4",
    b"latin5": "iso8859-9",
    b"latin9": "iso8859-15",
    b"latin10": "iso8859-16",
    b"ansinew": "cp1252",
    b"cp1252": "cp1252",
    b"cp1250": "cp1250",
    b"cp1251": "cp1251",
    b"cp850": "cp850",
    b"cp866": "cp866",
    b"koi8-r": "koi8-r",
    b"applemac": "mac-roman",
}
#: Encodings in which papers are still found, one a script.
_LEGACY = (
    "cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp932", "euc_jp",
    "gb18030", "big5", "cp949",
)  # fmt: skip
_LINE_ENDS = re.compile("\r\n|[\r\x85\u2028]|\u2029")


def decode(data: bytes, declared: str | None = None) -> tuple[str, tuple[Flag, ...]]:
    """The text with `\\n` as its line end. A declared encoding holds for what is not Unicode.

    Raises PaperUnreadable with kind too_large, empty, damaged or not_text.
    """
    text, flags = decode_line(unpack(data), declared)
    if not text.strip("\ufeff \t\r\n\f\v"):
        raise PaperUnreadable("The file is empty.", kind="empty")
    controls = _CONTROLS.decode("ascii")
    if sum(map(text[: 2**20].count, controls)) > MAX_CONTROLS * min(len(text), 2**20):
        raise PaperUnreadable("The file is not text.", kind="not_text")
    return with_newlines(text), flags


def decode_line(data: bytes, declared: str | None = None) -> tuple[str, tuple[Flag, ...]]:
    """The text with its own line ends, as JSON needs. Raises PaperUnreadable as `decode` does."""
    if len(data) > MAX_TEXT_BYTES:
        sentence = f"The text is {len(data) / 2**20:.0f} MiB long; the limit is 20 MiB."
        raise PaperUnreadable(sentence, kind="too_large")
    return _decoded(data, declared)


def decode_tex(data: bytes) -> tuple[str, tuple[Flag, ...]]:
    """TeX source as text, in the encoding that it declares. Raises PaperUnreadable."""
    data = unpack(data)
    found = _INPUTENC.search(data)
    return decode(data, _DECLARED.get(found[1]) if found else None)


def with_newlines(text: str) -> str:
    """The text with `\\n` for each of the line ends of Unicode; U+2029 separates paragraphs."""
    return _LINE_ENDS.sub(lambda found: "\n\n" if found[0] == "\u2029" else "\n", text)


def unicode_encoding(head: bytes) -> str | None:
    """The UTF-16 or UTF-32 that the first bytes of a file show, by their mark or their zeros."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding if encoding != "utf-8-sig" else None
    head = head[: len(head) & ~1]
    even, odd = head[::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    if half >= 4 and odd > 0.4 * half and even < 0.1 * half:
        return "utf-16-le"
    if half >= 4 and even > 0.4 * half and odd < 0.1 * half:
        return "utf-16-be"
    return None


def unpack(data: bytes) -> bytes:
    """The bytes, decompressed if they are gzipped. Raises PaperUnreadable (damaged, too_large)."""
    if not data.startswith(GZIP_MARK):
        return data
    parts: list[bytes] = []
    room = MAX_TEXT_BYTES + 1
    try:
        while data.startswith(GZIP_MARK) and room > 0:
            unpacker = zlib.decompressobj(wbits=31)
            parts.append(unpacker.decompress(data, room))
            room -= len(parts[-1])
            if room > 0 and not unpacker.eof:
                raise PaperUnreadable("The gzip file is truncated.", kind="damaged")
            data = unpacker.unused_data
    except zlib.error as error:
        raise PaperUnreadable("The gzip file is damaged.", kind="damaged") from error
    if room <= 0:
        raise PaperUnreadable("The text is longer than 20 MiB.", kind="too_large")
    return b"".join(parts)


def _decoded(data: bytes, declared: str | None) -> tuple[str, tuple[Flag, ...]]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), ()
    wide = unicode_encoding(data[:HEAD_BYTES])
    if wide is not None:
        return data.decode(wide, errors="replace"), (Flag("encoding", f"read as {wide.upper()}"),)
    if len(data.translate(None, _CONTROLS)) < (1 - MAX_CONTROLS) * len(data):
        raise PaperUnreadable("The file is not text.", kind="not_text")
    try:
        return data.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        if _is_damaged_utf8(data, error):
            text = data.decode("utf-8", errors="replace")
            return text, (Flag("encoding", "damaged UTF-8; some characters are lost"),)
    if declared is not None:
        return data.decode(declared, errors="replace"), ()
    encoding = _detected(data)
    flag = Flag("encoding", f"not UTF-8; read as {_shown(encoding)}")
    return data.decode(encoding, errors="replace"), (flag,)


def _is_damaged_utf8(data: bytes, error: UnicodeDecodeError) -> bool:
    """Is most of what is not ASCII valid UTF-8? Then another encoding is out of the question."""
    sample = data[max(0, error.start - DETECTION_BYTES) :][: 2 * DETECTION_BYTES]
    wrong = sample.decode("utf-8", errors="replace").count("\ufffd")
    right = sum(char > "\x7f" and char != "\ufffd" for char in sample.decode("utf-8", "replace"))
    return right > 4 * wrong


def _detected(data: bytes) -> str:
    from charset_normalizer import from_bytes  # only for the rare file that is not Unicode

    lines = b"\n".join(line for line in data.splitlines() if not line.isascii())
    sample = lines[:DETECTION_BYTES]
    best = from_bytes(sample, cp_isolation=list(_LEGACY), enable_fallback=False).best()
    encoding = best.encoding if best is not None else "cp1252"
    accented = sum(byte > 0x7F for byte in sample)
    # A few accented letters of Central Europe are also letters of Western Europe.
    return "cp1252" if encoding == "cp1250" and accented < MIN_CENTRAL_EUROPEAN else encoding


def _shown(encoding: str) -> str:
    return {"cp1252": "Windows-1252", "cp1251": "Windows-1251"}.get(encoding, encoding)
