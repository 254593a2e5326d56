"""The training corpus: imported papers, their human reviews and the flags set by cleaning.

A paper belongs to the corpus if it has an origin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from db.column_types import insert_or_ignore
from db.paper_contents import PaperContent, store_papers
from db.schema import ItemRow, PaperRow, ReviewerRow, ReviewRow
from db.schema_data import DataFlag, JobInput, Origin
from db.session import Database

#: Licence of a source whose importer gave none.
NO_LICENCE = "none stated"
#: Rows that one query or transaction touches.
CHUNK = 200


@dataclass(frozen=True)
class NewOrigin:
    """A paper of a source. `licence` is as the source states it; None keeps the stored one."""

    source: str
    source_id: str
    licence: str | None
    content: PaperContent
    venue: str | None = None
    year: int | None = None
    decision: str | None = None
    version_choice: str | None = None


@dataclass(frozen=True)
class CorpusPaper:
    """A paper of the corpus under one of its source ids."""

    id: int
    sha256: str
    source: str
    source_id: str
    licence: str
    title: str
    abstract: str
    venue: str | None
    decision: str | None
    version_choice: str | None
    n_chars: int


@dataclass(frozen=True)
class HumanReview:
    """A human review of a paper, or another note on it; `fields` are as imported."""

    id: int
    paper_id: int
    external_id: str
    text: str
    rating: float | None
    confidence: float | None
    is_meta: bool
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class NewFlag:
    """What a rule found. `review_id` is None for the paper itself; spans are [start, end)."""

    paper_id: int
    review_id: int | None
    rule: str
    excludes: bool
    reason: str
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class MergedReview:
    """A stored merged review; `items` are (aspect, title, text) in order."""

    id: int
    paper_id: int
    items: tuple[tuple[str, str, str], ...]


def store_origins(database: Database, origins: Sequence[NewOrigin]) -> int:
    """Store papers with their source ids; return how many of these are new.

    A known source id that comes with another text is moved to it; the old text is kept.
    """
    new = 0
    for start in range(0, len(origins), CHUNK):
        chunk = origins[start : start + CHUNK]
        with database.write() as on:
            papers = store_papers(on, [origin.content for origin in chunk])
            new += sum(_store_origin(on, origin, papers[origin.content.sha256]) for origin in chunk)
    return new


def _store_origin(on: Connection, origin: NewOrigin, paper_id: int) -> bool:
    # Values of an earlier source or a submit take precedence.
    known = {
        name: func.coalesce(getattr(PaperRow, name), getattr(origin, name))
        for name in ("venue", "year", "decision", "version_choice")
        if getattr(origin, name) is not None
    }
    if known:
        on.execute(update(PaperRow).where(PaperRow.id == paper_id).values(**known))
    name = {"source": origin.source, "source_id": origin.source_id}
    licence = origin.licence or NO_LICENCE
    values: dict[str, Any] = {"paper_id": paper_id, "licence": licence}
    insertion = insert_or_ignore(on, Origin).values(**name, **values)
    made = on.scalar(insertion.returning(Origin.id)) is not None
    if not made:
        values["licence"] = origin.licence or Origin.licence
        on.execute(update(Origin).filter_by(**name).values(**values))
    return made


def corpus_papers(database: Database, sources: Sequence[str] = ()) -> list[CorpusPaper]:
    """All papers of the corpus, or of the named sources, each under its first source id."""
    query = (
        select(
            *(PaperRow.id, PaperRow.sha256, Origin.source, Origin.source_id, Origin.licence),
            *(
                PaperRow.title,
                PaperRow.abstract,
                PaperRow.venue,
                PaperRow.decision,
                PaperRow.version_choice,
            ),
            func.length(PaperRow.body).label("n_chars"),
        )
        .join(Origin, Origin.paper_id == PaperRow.id)
        .order_by(Origin.id)
    )
    if sources:
        query = query.where(Origin.source.in_(sources))
    found: dict[int, CorpusPaper] = {}
    with database.read() as on:
        for row in on.execute(query).mappings():
            found.setdefault(row["id"], CorpusPaper(**row))
    return list(found.values())


def source_names(database: Database) -> list[str]:
    """Names of the sources that papers were imported from."""
    with database.read() as on:
        return list(on.scalars(select(Origin.source).distinct().order_by(Origin.source)))


def bodies(database: Database, paper_ids: Sequence[int]) -> Iterator[tuple[int, str]]:
    """(paper id, laid-out text) of the papers, a chunk in memory at a time."""
    for start in range(0, len(paper_ids), CHUNK):
        chunk = paper_ids[start : start + CHUNK]
        with database.read() as on:
            rows = on.execute(
                select(PaperRow.id, PaperRow.body).where(PaperRow.id.in_(chunk))
            ).all()
        texts = dict(rows)
        yield from ((paper_id, texts[paper_id]) for paper_id in chunk)


def human_reviews(database: Database, paper_ids: Sequence[int]) -> dict[int, list[HumanReview]]:
    """The human reviews of each of the papers, in the order in which they were stored."""
    found: dict[int, list[HumanReview]] = {paper_id: [] for paper_id in paper_ids}
    columns = (
        *(ReviewRow.id, ReviewRow.paper_id, ReviewRow.external_id, ReviewRow.raw.label("text")),
        *(ReviewRow.rating, ReviewRow.confidence, ReviewRow.is_meta, ReviewRow.fields),
    )
    with database.read() as on:
        for chunk in _chunks(paper_ids):
            query = (
                select(*columns)
                .join(ReviewerRow, ReviewerRow.id == ReviewRow.reviewer_id)
                .where(ReviewerRow.kind == "human", ReviewRow.paper_id.in_(chunk))
                .order_by(ReviewRow.id)
            )
            for row in on.execute(query).mappings():
                values = {**row, "fields": row["fields"] or {}}
                found[row["paper_id"]].append(HumanReview(**values))
    return found


def replace_flags(database: Database, paper_ids: Sequence[int], flags: Sequence[NewFlag]) -> None:
    """Replace all flags of these papers and their reviews."""
    with database.write() as on:
        for chunk in _chunks(paper_ids):
            on.execute(delete(DataFlag).where(DataFlag.paper_id.in_(chunk)))
        for start in range(0, len(flags), CHUNK):
            rows = [_flag_row(flag) for flag in flags[start : start + CHUNK]]
            on.execute(insert(DataFlag), rows)


def _flag_row(flag: NewFlag) -> dict[str, Any]:
    row = vars(flag) | {"detail": {"reason": flag.reason, "spans": flag.spans}}
    return {key: row[key] for key in ("paper_id", "review_id", "rule", "excludes", "detail")}


def flags_of(database: Database, paper_ids: Iterable[int]) -> list[NewFlag]:
    """All flags of these papers and their reviews."""
    wanted = set(paper_ids)
    with database.read() as on:
        rows = on.execute(select(DataFlag.__table__).order_by(DataFlag.id)).mappings().all()
    return [_flag_of(dict(row)) for row in rows if row["paper_id"] in wanted]


def _flag_of(row: Mapping[str, Any]) -> NewFlag:
    spans = tuple((start, end) for start, end in row["detail"]["spans"])
    names = ("paper_id", "review_id", "rule", "excludes")
    return NewFlag(**{n: row[n] for n in names}, reason=row["detail"]["reason"], spans=spans)


def merged_reviews(database: Database, reviewer_id: int) -> list[MergedReview]:
    """The newest review of each paper by this reviewer version, with its items in order."""
    newest = (
        select(func.max(ReviewRow.id))
        .where(ReviewRow.reviewer_id == reviewer_id)
        .group_by(ReviewRow.paper_id)
    )
    with database.read() as on:
        heads = on.execute(
            select(ReviewRow.id, ReviewRow.paper_id)
            .where(ReviewRow.id.in_(newest))
            .order_by(ReviewRow.id)
        ).all()
        query = (
            select(ItemRow.review_id, ItemRow.aspect, ItemRow.title, ItemRow.text)
            .where(ItemRow.review_id.in_(newest))
            .order_by(ItemRow.review_id, ItemRow.aspect, ItemRow.position)
        )
        items: dict[int, list[tuple[str, str, str]]] = {review_id: [] for review_id, _ in heads}
        for review_id, aspect, title, text in on.execute(query):
            items[review_id].append((aspect, title, text))
    return [MergedReview(head, paper, tuple(items[head])) for head, paper in heads]


def merged_inputs(database: Database, reviewer_id: int) -> set[str]:
    """Hashes of the inputs from which this reviewer version has generated reviews."""
    query = (
        select(JobInput.sha256)
        .join(ReviewRow, ReviewRow.job_id == JobInput.job_id)
        .where(ReviewRow.reviewer_id == reviewer_id)
    )
    with database.read() as on:
        return set(on.scalars(query))


def _chunks(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]
