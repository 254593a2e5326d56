"""One paper that someone submitted, before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Format(Enum):
    """How a paper is written down."""

    PDF = "pdf"
    TEX = "tex"
    MARKDOWN = "markdown"
    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True)
class Entry:
    """Where a paper is to be read from.

    `source` says it to the user: a path, or a path and a line. `offset` and `length` are the bytes
    of a JSON line in the (unpacked) file. `title` comes from a manifest. `problem` is set when it
    is already known that the entry cannot be read.
    """

    custom_id: str
    source: str
    path: Path
    format: Format
    offset: int = 0
    length: int = 0
    title: str | None = None
    problem: str | None = None
