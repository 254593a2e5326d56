"""Read JSON objects from plain or gzipped files, and their fields."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from errors import UserError
from trainer.data.source_records import Problem


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
    except ValueError:
        yield from json_lines(path)
        return
    found = document.get("notes", [document]) if isinstance(document, dict) else document
    for number, each in enumerate(found, start=1):
        place = f"{path.name}, object {number}"
        yield (place, each) if isinstance(each, dict) else Problem(f"{place}: not an object.")


def read_text(path: Path) -> str:
    """A file's text, decompressed if its name ends in .gz. UserError when it cannot be read."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        return raw.decode("utf-8", "replace")
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a complete gzip file: {error}.") from error


def _parsed(place: str, line: str) -> tuple[str, dict[str, Any]] | Problem:
    try:
        document = json.loads(line)
    except ValueError:
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
        return float(value)
    head = text_of(value).split(":")[0].split()
    try:
        return float(head[0]) if head else None
    except ValueError:
        return None
