"""Data files that ship with Referee, found by `importlib.resources`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from errors import MissingPart


def package_folder(package: str) -> Path:
    """The folder of a package that holds data files: `configs`, `adapters`, `examples`, ..."""
    found = files(package)
    if not isinstance(found, Path):
        raise MissingPart(f"Referee cannot run from a zip file: install the package {found}.")
    return found
