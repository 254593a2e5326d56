"""Read JSON objects from plain or gzipped files, and their fields."""

from __future__ import annotations

import codecs
import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from errors import UserError
from trainer.data.source_records import Problem

#: Begins a gzip file, whatever its name.
_GZIP = b"\x1f\x8b"
#: No venue's scale goes beyond; NaN and infinities are no scores.
_MAX_SCORE = 1e6
#: The number with which a score's text begins.
_NUMBER = re.compile(r"\s*([-+]?\d+(?:\.\d+)?)(?![\w.])")


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]] | Problem]:
    """(place, object) of each line; a line that is not an object becomes a Problem."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield _parsed(f"{path.name}, line {number}", line)


def json_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]] | Problem]:
    """The objects of a JSON list, of {"notes": [...]}, or of JSON lines."""
    text = read_text(path)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        yield from json_lines(path)
        return
    found = document.get("notes", [document]) if isinstance(document, dict) else document
    if not isinstance(found, list):
        yield Problem(f"{path.name}: neither a JSON list nor an object.")
        return
    for number, each in enumerate(found, start=1):
        place = f"{path.name}, object {number}"
        yield (place, each) if isinstance(each, dict) else Problem(f"{place}: not an object.")


def read_text(path: Path) -> str:
    """A file's text, decompressed and without its byte order mark.

    UTF-8, or UTF-16 with its mark. UserError when it cannot be read.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw.startswith(_GZIP) else raw
        utf_16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return raw.decode("utf-16" if utf_16 else "utf-8-sig", "replace")
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a complete gzip file: {error}.") from error


def _parsed(place: str, line: str) -> tuple[str, dict[str, Any]] | Problem:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return Problem(f"{place}: not JSON.")
    return (place, document) if isinstance(document, dict) else Problem(f"{place}: not an object.")


def text_of(value: object) -> str:
    """A field as text; lists become lines, other types the empty string."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return "\n".join(filter(None, map(text_of, value)))
    return ""


def score_of(value: object) -> float | None:
    """A score: a number, or the number with which a text such as "8: accept" begins."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if abs(value) < _MAX_SCORE else None
    found = _NUMBER.match(text_of(value))
    score = float(found[1]) if found else math.inf
    return score if abs(score) < _MAX_SCORE else None
