"""Find and read the files that a TeX paper inserts with `\\input`.

All submissions may lie in one folder, so a name inside that folder is not enough: hidden files,
files that are not TeX, and other papers are not parts of this one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from papers.encoding import MAX_TEXT_BYTES

#: Suffixes of files that hold parts of a paper. A name without a suffix is tried with `.tex`.
SUFFIXES = frozenset({".tex", ".ltx", ".latex", ".bbl", ".tikz", ".pgf", ".sty"})
#: A document of its own, unless its class is made for parts that can be compiled alone.
_DOCUMENT = re.compile(
    rb"^[^%\n]*\\document(?:class|style)\s*(?:\[[^\]]*\]\s*)?\{(?!(?:subfiles|standalone)\})", re.M
)


class NotPartOfPaper(Exception):
    """The file is no part of the paper that names it."""


def part_path(folder: Path, name: str) -> Path:
    """The file that an `\\input` in a paper of the folder names; links are followed within it.

    Raises NotPartOfPaper with the end of a sentence about the name.
    """
    root = Path(os.path.realpath(folder))
    for candidate in (name, name + ".tex"):
        path = Path(os.path.realpath(root / candidate.replace("\0", "")))
        if path.is_relative_to(root) and path.is_file():
            break
    else:
        raise NotPartOfPaper("is not in the paper's folder")
    if any(part.startswith(".") for part in path.relative_to(root).parts):
        raise NotPartOfPaper("is a hidden file")
    if path.suffix.lower() not in SUFFIXES:
        raise NotPartOfPaper("is not a TeX file")
    return path


def read_part(path: Path) -> bytes:
    """The bytes of a part of a paper, at most one more than a text may have.

    Raises OSError, or NotPartOfPaper for a paper of its own.
    """
    with path.open("rb") as file:
        data = file.read(MAX_TEXT_BYTES + 1)
    if _DOCUMENT.search(data):
        raise NotPartOfPaper("is a paper of its own")
    return data
