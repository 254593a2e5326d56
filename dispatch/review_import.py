"""Import of reviews from files, for papers in the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.completion import NewItem
from db.imports import FrozenReview, import_reviews
from db.paper_contents import contents_named
from db.session import Database
from dispatch import roster
from models.text.aspects import aspect_sets
from models.text.parsing import parse
from models.text.reviewer import from_json


@dataclass(frozen=True)
class ImportResult:
    """The result of an import; `problems` has a sentence for each skipped line."""

    imported: int
    known: int
    problems: tuple[str, ...]


def import_file(
    database: Database, file: Path, file_format: str, reviewer_name: str, aspects: str
) -> ImportResult:
    """Store a file's reviews under a reviewer of kind `imported`. Repeating it adds nothing."""
    config = from_json({"name": reviewer_name, "kind": "imported", "aspects": aspects})
    reviewer = roster.register_version(database, config)
    rows: list[FrozenReview] = []
    problems: list[str] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(_frozen(database, json.loads(line), _READERS[file_format], aspects))
        except (ValueError, KeyError, TypeError, IndexError, LookupError) as error:
            problems.append(f"{file.name}, line {number}: {_reason(error)}.")
    done = import_reviews(database, reviewer, rows)
    return ImportResult(done.new, done.known, tuple(problems))


def _frozen(
    database: Database,
    line: dict[str, Any],
    text_of: Callable[[dict[str, Any]], str],
    aspects: str,
) -> FrozenReview:
    custom_id = str(line["custom_id"])
    papers = contents_named(database, custom_id)
    if len(papers) != 1:
        raise LookupError(f"{len(papers)} papers in the database have the custom_id {custom_id!r}")
    raw = text_of(line)
    review = parse(raw, aspect_sets()[aspects])
    return FrozenReview(
        external_id=f"{custom_id}#{line.get('sample', 0)}",
        paper=papers[0],
        raw=raw,
        items=tuple(NewItem(i.aspect, i.position, i.title, i.text) for i in review.items),
        empty_aspects=review.empty_aspects,
        unplaced=review.unplaced,
    )


def _from_openai_batch(line: dict[str, Any]) -> str:
    if line.get("error"):
        raise ValueError(f"the endpoint failed: {line['error']}")
    return str(line["response"]["body"]["choices"][0]["message"]["content"])


def _from_referee(line: dict[str, Any]) -> str:
    if line.get("review") is None:
        raise ValueError(f"the job {line.get('state', 'unknown')} has no review")
    return str(line["review"]["raw"])


def _from_text(line: dict[str, Any]) -> str:
    return str(line["text"])


_READERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "openai-batch": _from_openai_batch,
    "referee": _from_referee,
    "text": _from_text,
}


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "not JSON"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error)
