"""The cache of adapters on this machine.

A worker needs no more than two URLs: a missing adapter is copied from those shipped with Referee or
fetched from the database, then verified and kept.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from db import adapters
from db.adapters import Adapter
from db.session import Database
from errors import RequestRefused
from models.adapters.adapter_package import FILES
from models.hashes import adapter_sha256
from resources import package_folder

log = logging.getLogger("referee.adapters")

#: One folder for each adapter shipped with Referee.
SHIPPED = package_folder("adapters")


@dataclass(frozen=True)
class AdapterCache:
    """`$REFEREE_HOME/adapters`, filled from the shipped adapters and from the database."""

    database: Database
    home: Path

    def folder(self, sha256: str) -> Path:
        """The adapter's folder, fetched unless it is complete.

        Raises RequestRefused (kind `adapter`) when the database has no such adapter or other bytes,
        DatabaseUnavailable when it does not answer.
        """
        folder = self.home / "adapters" / sha256
        if is_whole(folder, sha256):
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        # One lock per adapter, so that others can be fetched meanwhile.
        with FileLock(folder.parent / f".{sha256}.lock"):
            if not is_whole(folder, sha256):
                self._fetch(sha256, folder)
        return folder

    def _fetch(self, sha256: str, folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch.") as scratch:
            made = Path(scratch) / sha256
            made.mkdir()
            self._fill(made, sha256)
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
        log.info("fetched", extra={"about": {"action": "fetch adapter", "sha256": sha256}})

    def _fill(self, folder: Path, sha256: str) -> None:
        shipped = next((each for each in SHIPPED.glob("*/") if is_whole(each, sha256)), None)
        if shipped is not None:
            for name in FILES:
                shutil.copy(shipped / name, folder)
            return
        adapter = adapters.find(self.database, sha256)
        if adapter is None:
            raise _refusal(sha256, "it is neither on this machine nor in the database")
        unpack(self.database, adapter, folder)


def is_whole(folder: Path, sha256: str) -> bool:
    """Whether `folder` holds the complete adapter with this SHA-256."""
    try:
        return adapter_sha256(folder) == sha256
    except OSError:
        return False


def unpack(database: Database, adapter: Adapter, folder: Path) -> None:
    """Write an adapter's files into an empty folder.

    Raises RequestRefused (kind `adapter`) unless they are safetensors with the recorded SHA-256.
    """
    if [name for name, _ in adapter.files] != list(FILES):
        raise _refusal(adapter.sha256, "it is not in safetensors format, the only one that is read")
    source = adapters.content(database, adapter)
    held = b""  # the rest of a chunk, which belongs to the next file
    for name, n_bytes in adapter.files:
        with (folder / name).open("wb") as file:
            held = _copy(source, file, n_bytes, held)
    found = adapter_sha256(folder)
    if held or next(source, b"") or found != adapter.sha256:
        raise _refusal(adapter.sha256, f"its bytes in the database have SHA-256 {found[:12]}…")


def _copy(source: Iterator[bytes], file: BinaryIO, n_bytes: int, held: bytes) -> bytes:
    """Write the next `n_bytes`; return the rest of the last chunk, which is the next file's."""
    while n_bytes:
        held = held or next(source, b"")
        if not held:
            break
        part, held = held[:n_bytes], held[n_bytes:]
        file.write(part)
        n_bytes -= len(part)
    return held


def _refusal(sha256: str, reason: str) -> RequestRefused:
    return RequestRefused(f"adapter {sha256[:12]} is refused: {reason}", kind="adapter")
