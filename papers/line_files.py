"""Scan lines of plain or gzipped JSONL files, and read them by position."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from errors import PaperUnreadable
from papers.encoding import MAX_TEXT_BYTES

_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)


def open_lines(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed if it is gzipped. Raises OSError."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb") if packed else path.open("rb"))


def scan(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number (from 1), offset and bytes of each line that is not blank.

    A line above the size limit is truncated. Raises PaperUnreadable (damaged) if a gzip stream is
    truncated.
    """
    offset = number = 0
    with open_lines(path) as file:
        while True:
            try:
                line = file.readline(MAX_TEXT_BYTES + 1)
                while line and line[-1:] != b"\n" and len(line) > MAX_TEXT_BYTES:
                    line += file.readline(MAX_TEXT_BYTES)
            except _BROKEN as error:
                raise PaperUnreadable("The gzip file is truncated.", kind="damaged") from error
            if not line:
                return
            number += 1
            if line.strip():
                yield number, offset, line
            offset += len(line)


class LineReader:
    """Reads lines by position; fast for ascending positions within one file after another."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: IO[bytes] | None = None

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """The bytes of one line. Raises OSError, or PaperUnreadable (too_large, damaged)."""
        if length > MAX_TEXT_BYTES:
            raise PaperUnreadable("The line is longer than 20 MiB.", kind="too_large")
        if self._file is None or self._path != path:
            self.close()
            self._path, self._file = path, open_lines(path)
        try:
            self._file.seek(offset)
            return self._file.read(length)
        except _BROKEN as error:
            raise PaperUnreadable("The gzip file is truncated.", kind="damaged") from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
