"""Decode bytes as text."""

from __future__ import annotations

import codecs

from errors import PaperUnreadable
from papers.paper import Flag

#: Bytes; the longest papers with all appendices stay under 1 MB of text.
MAX_TEXT_BYTES = 20 * 2**20
#: Share of control characters above which a file is not text.
MAX_CONTROLS = 0.02
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r\f\b\x1b")


def decode(data: bytes) -> tuple[str, tuple[Flag, ...]]:
    """UTF-8, UTF-16 with its mark, otherwise Windows-1252 with a flag.

    Raises PaperUnreadable with kind too_large, empty or not_text.
    """
    if len(data) > MAX_TEXT_BYTES:
        sentence = f"The text is {len(data) / 2**20:.0f} MiB long; the limit is 20 MiB."
        raise PaperUnreadable(sentence, kind="too_large")
    if not data.strip():
        raise PaperUnreadable("The file is empty.", kind="empty")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace"), ()
    if len(data.translate(None, _CONTROLS)) < (1 - MAX_CONTROLS) * len(data):
        raise PaperUnreadable("The file is not text.", kind="not_text")
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        flag = Flag("encoding", "not UTF-8; read as Windows-1252")
        return data.decode("cp1252", errors="replace"), (flag,)
