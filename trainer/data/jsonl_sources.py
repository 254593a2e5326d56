"""Sources in JSON lines: papers.jsonl with reviews.jsonl, or ready pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from errors import PaperUnreadable, UserError
from models.text.aspects import aspect_sets
from models.text.parsing import is_strict
from papers.jsonl import read_json
from trainer.data.json_lines import json_lines, score_of, text_of
from trainer.data.paper_versions import Version, choose_version, looks_anonymous
from trainer.data.source_records import Note, NoteKind, Problem, SourcePaper

_SUFFIXES = (".jsonl", ".jsonl.gz")
#: Columns of a review that are fields of a Note.
_KNOWN = {"paper_id", "review_id", "is_meta", "comments", "aspects", "rating", "confidence"}


def find(folder: Path, name: str) -> Path | None:
    """The folder's `name`.jsonl, plain or gzipped."""
    return next((p for s in _SUFFIXES if (p := folder / f"{name}{s}").is_file()), None)


def read_tables(folder: Path) -> Iterator[SourcePaper | Problem]:
    """Papers with their reviews, from papers.jsonl and reviews.jsonl."""
    papers, reviews = find(folder, "papers"), find(folder, "reviews")
    if papers is None:
        raise UserError(f"{folder} contains no papers.jsonl or papers.jsonl.gz.")
    notes: dict[str, list[Note]] = {}
    decisions: dict[str, str] = {}
    for row in json_lines(reviews) if reviews else ():
        if isinstance(row, Problem):
            yield row
            continue
        place, document = row
        paper_id = text_of(document.get("paper_id"))
        note = _note(document, len(notes.get(paper_id, ())))
        if not paper_id:
            yield Problem(f"{place}: paper_id is missing.")
            continue
        notes.setdefault(paper_id, []).append(note)
        if text_of(document.get("decision")):
            decisions[paper_id] = text_of(document["decision"])
    for row in json_lines(papers):
        yield row if isinstance(row, Problem) else _paper(*row, notes, decisions)


def _note(document: Mapping[str, Any], number: int) -> Note:
    aspects = document.get("aspects")
    parts = {k: text_of(v) for k, v in aspects.items()} if isinstance(aspects, dict) else {}
    parts = {name: text for name, text in parts.items() if text}
    kind: NoteKind = "meta_review" if document.get("is_meta") else "review"
    return Note(
        id=text_of(document.get("review_id")) or f"r{number + 1}",
        kind=kind,
        parts=parts or {"review": text_of(document.get("comments"))},
        rating=score_of(document.get("rating")),
        confidence=score_of(document.get("confidence")),
        extra={key: value for key, value in document.items() if key not in _KNOWN},
    )


def _paper(
    place: str,
    document: Mapping[str, Any],
    notes: Mapping[str, list[Note]],
    decisions: Mapping[str, str],
) -> SourcePaper | Problem:
    paper_id = text_of(document.get("id"))
    if not paper_id:
        return Problem(f"{place}: id is missing.")
    try:
        paper = read_json(document)
    except PaperUnreadable as error:
        return Problem(f"{place}: {error}")
    hidden = document.get("anonymous") is True or looks_anonymous(text_of(document.get("text")))
    version = Version(paper_id, paper, anonymous=hidden)
    year = document.get("year")
    return SourcePaper(
        id=paper_id,
        paper=paper,
        notes=tuple(notes.get(paper_id, ())),
        venue=text_of(document.get("venue")) or None,
        year=year if isinstance(year, int) else None,
        decision=text_of(document.get("decision")) or decisions.get(paper_id),
        version_choice=choose_version([version], None).why,
    )


def read_pairs(file: Path) -> Iterator[SourcePaper | Problem]:
    """Ready pairs, {"id"?, "paper", "review"}; a review in the grammar counts as merged."""
    for number, row in enumerate(json_lines(file), start=1):
        yield row if isinstance(row, Problem) else _pair(*row, number)


def _pair(place: str, document: Mapping[str, Any], number: int) -> SourcePaper | Problem:
    paper, review = text_of(document.get("paper")), document.get("review")
    if not paper or not isinstance(review, str) or not review.strip():
        missing = "review" if paper else "paper"
        return Problem(f'{place}: "{missing}" is missing or empty.')
    try:
        read = read_json({"text": paper})
    except PaperUnreadable as error:
        return Problem(f"{place}: {error}")
    merged_review = any(is_strict(review, aspects) for aspects in aspect_sets().values())
    name = text_of(document.get("id")) or str(document.get("id") or f"pair-{number}")
    notes = () if merged_review else (Note(f"{name}_r1", "review", {"review": review.strip()}),)
    return SourcePaper(
        id=name,
        paper=read,
        notes=notes,
        version_choice=choose_version(
            [Version(name, read, anonymous=looks_anonymous(paper))], None
        ).why,
        merged_review=review if merged_review else None,
    )
