"""Import a source of papers and reviews into the database."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from db import corpus
from db.column_types import is_too_long
from db.completion import NewItem
from db.corpus import NewOrigin
from db.imports import FrozenReview, import_reviews
from db.paper_contents import PaperContent
from db.session import Database
from dispatch import roster
from dispatch.progress import Progress
from errors import UserError
from models.text.aspects import aspect_sets
from models.text.parsing import is_strict, parse
from models.text.reviewer import ReviewerConfig, from_json
from papers.entry import Entry
from papers.paper import Paper
from papers.reading import PdfLimits, ReadingCache, discover, read_all
from settings import Settings
from trainer.data import jsonl_sources, openreview_dump, peerread
from trainer.data.json_lines import json_objects
from trainer.data.source_records import Note, Problem, SourcePaper
from trainer.data.venue_forms import FOLDER, load_forms

FORMATS = ("openreview", "peerread", "jsonl", "pairs")


@dataclass(frozen=True)
class ImportSource:
    """The source that the user named. `texts` holds the papers of an OpenReview dump."""

    path: Path
    name: str
    licence: str | None = None
    layout: str | None = None
    texts: Path | None = None
    forms: Path = FOLDER


@dataclass
class ImportedData:
    """Counts of an import, found and new; `problems` are sentences."""

    source: str
    layout: str
    papers: int = 0
    new_papers: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    new_reviews: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def import_source(
    database: Database, source: ImportSource, settings: Settings, progress: Progress
) -> ImportedData:
    """Store a source's papers and notes; running it again adds nothing.

    UserError if the layout is unknown or the source has no paper.
    """
    layout = source.layout or detect(source.path)
    done = ImportedData(source.name, layout)
    found = list(_papers(_read(source, layout, settings, progress), done))
    if not found:
        first = f" {done.problems[0]}" if done.problems else ""
        raise UserError(f"{source.path} contains no usable papers.{first}")
    done.papers = len(found)
    done.new_papers = corpus.store_origins(database, [_origin(source, each) for each in found])
    human = roster.register_version(database, human_config(source.name))
    rows = [_imported_review(each, note) for each in found for note in each.notes]
    done.new_reviews = import_reviews(database, human, rows).new
    for aspects in aspect_sets().values():
        merged_review = [
            each for each in found if each.merged_review and is_strict(each.merged_review, aspects)
        ]
        if merged_review:
            merged = roster.register_version(database, merged_config(source.name, aspects.name))
            frozen = [_imported_merged_review(each, aspects.name) for each in merged_review]
            done.new_reviews += import_reviews(database, merged, frozen).new
    return done


def detect(path: Path) -> str:
    """The layout of a source. UserError if it is unknown."""
    if path.is_dir():
        if jsonl_sources.find(path, "papers"):
            return "jsonl"
        if peerread.is_peerread(path):
            return "peerread"
    elif path.is_file():
        for row in json_objects(path):
            if isinstance(row, Problem):
                continue
            if openreview_dump.is_note(row[1]):
                return "openreview"
            if {"paper", "review"} <= row[1].keys():
                return "pairs"
            break
    raise UserError(
        f"{path} has an unknown layout. Known are: a file of OpenReview notes, a folder with "
        "papers.jsonl and reviews.jsonl, a PeerRead folder, a file of {paper, review} lines."
    )


def human_config(source: str) -> ReviewerConfig:
    """The reviewer of a source's human notes."""
    return from_json({"name": f"human-{source}", "kind": "human", "aspects": "7"})


def merged_config(source: str, aspects: str) -> ReviewerConfig:
    """The reviewer of reviews that the source had merged."""
    name = f"merged-{source}-{aspects}"
    return from_json({"name": name, "kind": "merged", "aspects": aspects})


def _papers(found: Iterable[SourcePaper | Problem], done: ImportedData) -> Iterator[SourcePaper]:
    for each in found:
        if isinstance(each, Problem):
            done.problems.append(each.sentence)
            continue
        if is_too_long(each.id):
            done.problems.append(f"The id {each.id[:60]}... of a paper is too long.")
            continue
        long = [note for note in each.notes if is_too_long(note.id)]
        if long:
            done.problems.append(f"{len(long)} notes of {each.id} have ids that are too long.")
            each = replace(each, notes=tuple(note for note in each.notes if note not in long))
        for note in each.notes:
            done.notes[note.kind] = done.notes.get(note.kind, 0) + 1
        why = each.version_choice or "not recorded"
        done.versions[why] = done.versions.get(why, 0) + 1
        yield each


def _read(
    source: ImportSource, layout: str, settings: Settings, progress: Progress
) -> Iterator[SourcePaper | Problem]:
    match layout:
        case "jsonl":
            return jsonl_sources.read_tables(source.path)
        case "pairs":
            return jsonl_sources.read_pairs(source.path)
        case "peerread":
            return peerread.read_peerread(source.path)
        case "openreview":
            return _read_openreview(source, settings, progress)
    raise UserError(f"Unknown layout {layout!r}; known are {', '.join(FORMATS)}.")


def _read_openreview(
    source: ImportSource, settings: Settings, progress: Progress
) -> Iterator[SourcePaper | Problem]:
    if source.texts is None:
        raise UserError(
            "OpenReview notes do not contain the papers: name their folder with --texts DIR."
        )
    forms = load_forms(source.forms)
    forums, problems = openreview_dump.read_forums(source.path)
    yield from [*problems, *openreview_dump.left_out(forums, forms)]
    files = openreview_dump.texts(source.texts)
    choices = {forum.id: openreview_dump.choose_file(forum, files, forms) for forum in forums}
    chosen = [choice.version.content for choice in choices.values() if choice is not None]
    papers = _read_files(chosen, settings, progress)
    for forum in forums:
        choice = choices[forum.id]
        paper = None if choice is None else papers[choice.version.content]
        if choice is None:
            yield Problem(f"{source.texts} contains no text of submission {forum.id}.")
        elif isinstance(paper, Paper):
            yield openreview_dump.source_paper(forum, paper, choice.why, forms)
        else:
            yield Problem(f"{choice.version.content}: {paper}")


def _read_files(
    files: Sequence[Path], settings: Settings, progress: Progress
) -> dict[Path, Paper | str]:
    """Each file's paper, or why it cannot be read."""
    if not files:
        return {}
    entries: list[Entry] = discover([str(file) for file in files])
    limits = PdfLimits(settings.pdf_seconds, settings.pdf_pages, settings.pdf_memory_mib)
    with ReadingCache(settings.home / "cache") as cache:
        readings = read_all(
            entries,
            cache=cache,
            limits=limits,
            processes=os.cpu_count() or 1,
            progress=progress,
        )
        pairs = zip(entries, readings, strict=True)
        return {entry.path: reading.paper or str(reading.error) for entry, reading in pairs}


def _origin(source: ImportSource, each: SourcePaper) -> NewOrigin:
    return NewOrigin(
        source=source.name,
        source_id=each.id,
        licence=source.licence,
        content=PaperContent.of(each.paper),
        venue=each.venue,
        year=each.year,
        decision=each.decision,
        version_choice=each.version_choice,
    )


def _imported_review(each: SourcePaper, note: Note) -> FrozenReview:
    fields = {"kind": note.kind, "parts": dict(note.parts), **note.extra}
    if note.created_ms is not None:
        fields["created_ms"] = note.created_ms
    return FrozenReview(
        external_id=note.id,
        paper=PaperContent.of(each.paper),
        raw=note.text,
        rating=note.rating,
        confidence=note.confidence,
        is_meta=note.kind != "review",
        fields=fields,
    )


def _imported_merged_review(each: SourcePaper, aspects: str) -> FrozenReview:
    raw = each.merged_review or ""
    review = parse(raw, aspect_sets()[aspects])
    return FrozenReview(
        external_id=each.id,
        paper=PaperContent.of(each.paper),
        raw=raw,
        items=tuple(NewItem(i.aspect, i.position, i.title, i.text) for i in review.items),
        empty_aspects=review.empty_aspects,
    )
