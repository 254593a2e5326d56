"""Scan lines of JSONL files, plain or gzipped, and read them by position.

Positions are those of the lines in UTF-8: a file in UTF-16 is converted while it is read, and lines
that end with a carriage return alone end with a newline.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from errors import PaperUnreadable
from papers.encoding import GZIP_MARK, HEAD_BYTES, MAX_TEXT_BYTES, unicode_encoding

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Bytes of one line after which a file is given up: no set of papers holds such a line.
MAX_SKIPPED_BYTES = 2**30
#: Bytes that are read at once.
CHUNK_BYTES = 2**20

_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)


def open_lines(path: Path) -> IO[bytes]:
    """The file's lines in UTF-8, ending with newlines. Raises OSError."""
    file = _unpacked(path)
    try:
        head = file.read(CHUNK_BYTES)
        file.seek(0)
    except _BROKEN:
        file.close()
        return _unpacked(path)  # reading reports the damage
    encoding = unicode_encoding(head[:HEAD_BYTES])
    only_returns = encoding is None and b"\n" not in head and b"\r" in head[:-1]
    if encoding is None and not only_returns:
        return file
    return io.BufferedReader(_Converted(file, encoding))


def _unpacked(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MARK
    return cast(IO[bytes], gzip.open(path, "rb") if packed else path.open("rb"))


class _Converted(io.RawIOBase):
    """A file in UTF-8 with newlines. Seeking reads up to the position, backwards from the start."""

    def __init__(self, file: IO[bytes], encoding: str | None) -> None:
        self._file = file
        self._encoding = encoding or "utf-8"
        self._restart()

    def _restart(self) -> None:
        self._file.seek(0)
        self._decoder = codecs.getincrementaldecoder(self._encoding)(errors="replace")
        self._ready = b""
        self._position = 0
        self._ended = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._position
        if offset < self._position:
            self._restart()
        while self._position < offset and self._fill():
            self._consume(min(len(self._ready), offset - self._position))
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._fill():
            return 0
        view = memoryview(buffer)
        data = self._consume(min(len(self._ready), len(view)))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _fill(self) -> bool:
        while not self._ready and not self._ended:
            chunk = self._file.read(CHUNK_BYTES)
            self._ended = not chunk
            text = self._decoder.decode(chunk, final=not chunk)
            if b"\n" not in chunk:
                text = text.replace("\r", "\n")
            self._ready = text.encode("utf-8", "replace")
        return bool(self._ready)

    def _consume(self, n_bytes: int) -> bytes:
        data, self._ready = self._ready[:n_bytes], self._ready[n_bytes:]
        self._position += len(data)
        return data


def scan(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number (from 1), offset and bytes of each line that is not blank.

    A line above the size limit is cut one byte after it. Raises PaperUnreadable: damaged if a gzip
    stream is, too_large for a line that does not end.
    """
    offset = number = 0
    with open_lines(path) as file:
        while True:
            try:
                line = file.readline(MAX_TEXT_BYTES + 1)
                skipped = _skip_rest(file) if _is_cut(line) else 0
            except _BROKEN as error:
                raise PaperUnreadable("The gzip file is truncated.", kind="damaged") from error
            if not line:
                return
            number += 1
            if line.strip():
                yield number, offset, line
            offset += len(line) + skipped


def _is_cut(line: bytes) -> bool:
    return len(line) > MAX_TEXT_BYTES and line[-1:] != b"\n"


def _skip_rest(file: IO[bytes]) -> int:
    """Skip to the end of a line; return the bytes skipped."""
    skipped = 0
    while chunk := file.readline(CHUNK_BYTES):
        skipped += len(chunk)
        if chunk[-1:] == b"\n":
            break
        if skipped > MAX_SKIPPED_BYTES:
            raise PaperUnreadable("A line is longer than 1 GiB.", kind="too_large")
    return skipped


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
