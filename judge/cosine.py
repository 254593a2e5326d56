"""Cosine similarity of texts by MiniLM, with a cache of vectors on disk.

The cache is one SQLite file under the home, keyed by the text's hash and named after the model's
weights. It may be deleted at any time, and several processes may use it at once.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.engines.sentence_embedding import (
    DIMENSIONS,
    WEIGHTS_SHA256,
    Embedder,
    Vectors,
    folder_of,
)

Similarities = npt.NDArray[np.float32]

#: Texts embedded between two writes of the cache, the most that a killed run loses.
_CHUNK = 512
#: Keys in one statement; SQLite takes 32,766 parameters at most.
_KEYS = 5000
#: Seconds that a process waits for another's write.
_BUSY_SECONDS = 60.0


class CachedEmbedder:
    """Embeds texts, each only once per machine."""

    def __init__(self, home: Path) -> None:
        self._embedder = Embedder(folder_of(home))
        self._file = home / "cache" / f"embeddings-{WEIGHTS_SHA256[:12]}.db"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of the texts, of shape (len(texts), 384).

        Raises MissingPart when a text is new and the model is not on this machine.
        """
        keys = [_key(text) for text in texts]
        with self._opened() as cache:
            known = _read(cache, sorted(set(keys)))
            new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
            for chunk in _chunks(list(new.items())):
                vectors = self._embedder.embed([text for _, text in chunk])
                made = {key: vectors[row] for row, (key, _) in enumerate(chunk)}
                _write(cache, made)
                known |= made
        found = [known[key] for key in keys]
        return np.stack(found) if found else np.zeros((0, DIMENSIONS), dtype=np.float32)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._file, timeout=_BUSY_SECONDS)) as cache:
            cache.execute("PRAGMA journal_mode = WAL")
            cache.execute(
                "CREATE TABLE IF NOT EXISTS vector (sha256 BLOB PRIMARY KEY, value BLOB NOT NULL) "
                "WITHOUT ROWID"
            )
            yield cache


def cosines(a: Vectors, b: Vectors) -> Similarities:
    """Cosines of unit vectors, (len(a), len(b)), within [-1, 1]."""
    found: Similarities = np.clip(a @ b.T, -1.0, 1.0)
    return found


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _chunks(pairs: list[tuple[bytes, str]]) -> Iterator[list[tuple[bytes, str]]]:
    for start in range(0, len(pairs), _CHUNK):
        yield pairs[start : start + _CHUNK]


def _read(cache: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
    found: dict[bytes, Vectors] = {}
    for start in range(0, len(keys), _KEYS):
        some = keys[start : start + _KEYS]
        marks = ",".join("?" * len(some))
        rows = cache.execute(f"SELECT sha256, value FROM vector WHERE sha256 IN ({marks})", some)
        found |= {key: np.frombuffer(value, dtype=np.float32) for key, value in rows}
    return found


def _write(cache: sqlite3.Connection, vectors: dict[bytes, Vectors]) -> None:
    with cache:
        cache.executemany(
            "INSERT OR IGNORE INTO vector VALUES (?, ?)",
            [(key, vector.tobytes()) for key, vector in vectors.items()],
        )
