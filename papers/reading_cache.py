"""Cache of papers by file; a damaged cache only costs time."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

from papers.entry import readable_name
from papers.paper import Paper

log = logging.getLogger(__name__)

#: Papers in one transaction.
BATCH = 32
#: Seconds to wait for another process that writes; then the paper is not cached.
BUSY_SECONDS = 2.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS reading (
    path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, reader TEXT, paper BLOB
) WITHOUT ROWID
"""


@lru_cache(maxsize=1)
def reader_version() -> str:
    """A hash of the reading code: any change of it invalidates the cache."""
    digest = hashlib.sha256(version("pypdfium2").encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


class ReadingCache:
    """Papers by file (path, size, time of change) and reader version, in one SQLite file.

    Not thread-safe; several processes may share the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "readings.sqlite3"
        self._pending = 0
        self._connection = self._open() or self._open_afresh()

    def __enter__(self) -> ReadingCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def get(self, path: Path) -> Paper | None:
        """The cached paper, if file and reader are unchanged."""
        if self._connection is None:
            return None
        try:
            row = self._connection.execute(
                "SELECT paper FROM reading"
                " WHERE path = ? AND size = ? AND mtime_ns = ? AND reader = ?",
                (*_key(path), reader_version()),
            ).fetchone()
            return Paper.from_json(row[0]) if row else None
        except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("reading cache: %s", error)
            return None

    def put(self, path: Path, paper: Paper) -> None:
        """Store the file's paper."""
        if self._connection is None:
            return
        try:
            self._connection.execute(
                "INSERT OR REPLACE INTO reading VALUES (?, ?, ?, ?, ?)",
                (*_key(path), reader_version(), paper.to_json()),
            )
            self._pending += 1
            if self._pending >= BATCH:
                self._commit()
        except (sqlite3.Error, OSError) as error:
            log.warning("reading cache: %s", error)

    def forget(self, paths: Iterable[Path]) -> int:
        """Delete the papers of these files, also from the disk; return how many."""
        if self._connection is None:
            return 0
        keys = [(_name(path),) for path in paths]
        try:
            self._connection.execute("PRAGMA secure_delete = ON")
            gone = self._connection.executemany("DELETE FROM reading WHERE path = ?", keys)
            self._connection.commit()
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return max(gone.rowcount, 0)
        except (sqlite3.Error, OSError) as error:
            log.warning("reading cache: %s", error)
            return 0

    def close(self) -> None:
        """Write what is pending."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._commit()
            self._connection.close()
            self._connection = None

    def _commit(self) -> None:
        if self._connection is not None:
            self._connection.commit()
            self._pending = 0

    def _open(self) -> sqlite3.Connection | None:
        connection: sqlite3.Connection | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_SCHEMA)
            connection.commit()
        except (sqlite3.Error, OSError) as error:
            log.warning("reading cache: %s", error)
            if connection is not None:
                connection.close()
            return None
        return connection

    def _open_afresh(self) -> sqlite3.Connection | None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        return self._open()


def _key(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return _name(path), status.st_size, status.st_mtime_ns


def _name(path: Path) -> str:
    """As `Entry.source` names it, which is all that a purge knows."""
    return readable_name(str(path.resolve()))
