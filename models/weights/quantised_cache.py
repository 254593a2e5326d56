"""Cache of quantised weights on disk, so that a restart does not quantise again.

An entry is a folder as transformers writes it; its name is a hash of everything that could change
its content. Any process may delete it at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

#: Entries that are kept, the most recently used ones: 5.7 GB each for 8B.
MAX_ENTRIES = 4
#: Free space that saving an entry requires, as a multiple of its size.
_HEADROOM = 1.5
#: Libraries whose version may change the quantised weights.
_LIBRARIES = ("torch", "transformers", "bitsandbytes")


@dataclass(frozen=True)
class WeightsCache:
    """A folder of quantised models."""

    folder: Path

    def entry(self, key_fields: Mapping[str, Any]) -> Path:
        """Path of the entry for `key_fields` and the installed libraries; it need not exist."""
        all_facts = {**key_fields, **{name: version(name) for name in _LIBRARIES}}
        text = json.dumps(all_facts, sort_keys=True)
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:32]

    def touch(self, entry: Path) -> None:
        """Mark an entry as used."""
        try:
            entry.touch()
        except OSError:
            log.debug("%s cannot be marked as used", entry)

    def save(self, model: Any, entry: Path) -> None:
        """Store a model that was just quantised; log a warning without space or permission."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # One worker of a host writes; the others need not wait.
            with FileLock(entry.with_suffix(".lock"), timeout=0):
                if not entry.is_dir() and self._has_space(model):
                    self._write(model, entry)
        except Timeout:
            return
        except OSError as error:
            log.warning("the quantised weights are not cached in %s: %s", self.folder, error)

    def _write(self, model: Any, entry: Path) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".write.") as scratch:
            made = Path(scratch) / "model"
            model.save_pretrained(made)
            made.rename(entry)
        entries = [path for path in self.folder.iterdir() if (path / "config.json").is_file()]
        entries.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for old in entries[MAX_ENTRIES:]:
            shutil.rmtree(old, ignore_errors=True)

    def _has_space(self, model: Any) -> bool:
        needed = int(model.get_memory_footprint() * _HEADROOM)
        enough = shutil.disk_usage(self.folder).free > needed
        if not enough:
            log.warning("the quantised weights are not cached: too little space in %s", self.folder)
        return enough
