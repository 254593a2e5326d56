"""Content hashes of weight files, cached beside them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

#: Caches hashes by name, size and modification time: hashing 16 GB takes half a minute.
_CACHE_NAME = ".sha256.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def weights_sha256(folder: Path) -> str:
    """Hash of the names and contents of a model's safetensors files."""
    return _combined(sorted(folder.glob("*.safetensors")))


def adapter_sha256(folder: Path) -> str:
    """Hash of the names and contents of an adapter's configuration and weights."""
    return _combined([folder / "adapter_config.json", folder / "adapter_model.safetensors"])


def file_sha256(path: Path) -> str:
    """Hash of one file's bytes, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _combined(paths: Iterable[Path]) -> str:
    lines = (f"{_remembered_sha256(path)}  {path.name}\n" for path in paths)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _remembered_sha256(path: Path) -> str:
    # The hub's cache links to blobs whose names are their SHA-256.
    if path.is_symlink() and _SHA256.fullmatch(path.resolve().name):
        return path.resolve().name
    cache = path.parent / _CACHE_NAME
    known = _read(cache)
    status = path.stat()
    key = f"{path.name} {status.st_size} {status.st_mtime_ns}"
    if key not in known:
        known[key] = file_sha256(path)
        # A read-only folder is hashed at every start.
        with contextlib.suppress(OSError):
            cache.write_text(json.dumps(known, indent=0), encoding="utf-8")
    return known[key]


def _read(cache: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known
