"""Llama 3's tokenizer for measurements: a given file, or the one that the tests fetch."""

from __future__ import annotations

import lzma
from pathlib import Path


def tokenizer_file(given: Path | None, scratch: Path) -> Path:
    """A tokenizer.json: `given`, unpacked if its name ends in .xz, else fetched once a machine."""
    path = scratch / "tokenizer.json"
    if given is None:
        from tests.tokenizers import TOKENIZERS

        TOKENIZERS["llama3"]().tokenizer.save(str(path))
    elif given.suffix == ".xz":
        path.write_bytes(lzma.decompress(given.read_bytes()))
    else:
        return given
    return path
