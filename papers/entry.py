"""A submitted paper before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

#: Bytes of the longest custom_id. Names are indexed, and PostgreSQL's index entries end at 2,704
#: bytes, of which a stored name may need three for one.
MAX_CUSTOM_ID_BYTES = 512


class Format(Enum):
    """The file format of a paper."""

    PDF = "pdf"
    TEX = "tex"
    MARKDOWN = "markdown"
    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True)
class Entry:
    """Where a paper is read from.

    `source` is shown to the user: a path, or a path and a line. `offset` and `length` are the bytes
    of a JSON line in the (decompressed) file. `title` comes from a manifest. `problem` is set if
    the entry is known to be unreadable, for a reason of `problem_kind`.
    """

    custom_id: str
    source: str
    path: Path
    format: Format
    offset: int = 0
    length: int = 0
    title: str | None = None
    problem: str | None = None
    problem_kind: str = "damaged"


def readable_name(name: str) -> str:
    """The name in characters that every file, database and terminal takes.

    Bytes of a file name that are not UTF-8, and surrogates that JSON may escape, become `\\x..` and
    `\\u....`, so that different names stay different.
    """
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()
