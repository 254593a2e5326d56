"""Papers and reviews as they are shown and exported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Result, Select, func, null, select, tuple_

from db.batch_records import require_batch
from db.column_types import among, at_most, storable
from db.completion import NewItem
from db.flags import FlagView, flags_of
from db.reviewers import aspects_of
from db.schema import BatchRow, ItemRow, Job, PaperRow, ReviewerRow, ReviewRow
from db.schema_data import JobInput
from db.session import Database

#: Jobs that one query of an export fetches.
PAGE = 1000

#: A paper's hash may be shortened to this many hex digits.
SHORTEST_HASH = 6


@dataclass(frozen=True)
class ReviewView:
    """A stored review. Token counts, seed and seconds are None for imported ones."""

    id: int
    reviewer: str
    version: int
    #: Name of the aspect set that its reviewer writes in.
    aspects: str | None
    adapter_sha256: str | None
    items: tuple[NewItem, ...]
    empty_aspects: tuple[str, ...]
    unplaced: str
    gate: Sequence[Mapping[str, Any]]
    raw: str
    n_prompt_tokens: int | None
    n_output_tokens: int | None
    truncated_tokens: int | None
    seed: int | None
    seconds: float | None
    finish: str | None
    versions: Mapping[str, str]
    external_id: str | None
    rating: float | None
    confidence: float | None
    created_at: float


@dataclass(frozen=True)
class JobView:
    """A place where a paper stands in a batch."""

    job: int
    batch: str
    custom_id: str
    sample: int
    state: str
    error_kind: str | None
    error: str | None


@dataclass(frozen=True)
class PaperView:
    """A paper with the jobs and the reviews that it has. `n_chars` counts the prompt text's.

    The flags are those of the files that were asked for: of one custom_id, or of all.
    """

    id: int
    sha256: str
    title: str
    abstract: str
    sections: Sequence[Mapping[str, Any]]
    flags: tuple[FlagView, ...]
    n_chars: int
    jobs: tuple[JobView, ...]
    reviews: tuple[ReviewView, ...]


@dataclass(frozen=True)
class ExportLine:
    """A job with its paper's head and its review, a duplicate's being its original's.

    `text` is the paper's, when asked for.
    """

    batch: str
    custom_id: str
    sample: int
    job: int
    state: str
    error_kind: str | None
    error: str | None
    source: str
    seed: int
    paper_title: str | None
    paper_sha256: str | None
    text: str | None
    review: ReviewView | None
    flags: tuple[FlagView, ...] = ()


#: What a ReviewView takes from its row.
_REVIEW_COLUMNS = (
    *(
        ReviewRow.id,
        ReviewerRow.name.label("reviewer"),
        ReviewerRow.version,
        aspects_of(),
        ReviewRow.adapter_sha256,
    ),
    *(
        ReviewRow.empty_aspects,
        ReviewRow.unplaced,
        ReviewRow.gate,
        ReviewRow.raw,
        ReviewRow.versions,
    ),
    *(
        ReviewRow.n_prompt_tokens,
        ReviewRow.n_output_tokens,
        ReviewRow.truncated_tokens,
        ReviewRow.seed,
    ),
    *(
        ReviewRow.seconds,
        ReviewRow.finish,
        ReviewRow.external_id,
        ReviewRow.rating,
        ReviewRow.confidence,
    ),
    ReviewRow.created_at,
)


def find(database: Database, identifier: str) -> list[PaperView]:
    """Find papers by a custom_id, the start of a paper's sha256, a paper's id or a review's id.

    The first of these kinds that finds anything decides; ids find both kinds.
    """
    with database.read() as on:
        for which in _meanings(identifier):
            ids = on.scalars(select(PaperRow.id).where(which).order_by(PaperRow.id)).all()
            if ids:
                return [_paper(on, paper_id, identifier) for paper_id in ids]
    return []


@dataclass(frozen=True)
class UnreadView:
    """A custom_id without a paper: its file could not be read, or was rejected."""

    jobs: tuple[JobView, ...]
    flags: tuple[FlagView, ...]


def find_unread(database: Database, custom_id: str) -> UnreadView:
    """Find the jobs of a custom_id that have no paper, with the flags of their files."""
    with database.read() as on:
        jobs = _jobs(on, Job.paper_id.is_(None), Job.custom_id == storable(custom_id))
        return UnreadView(tuple(jobs), _flags(on, [job.job for job in jobs]))


def export(database: Database, batch_name: str, *, with_text: bool = False) -> Iterator[ExportLine]:
    """Give every job of the batch, ordered by custom_id and sample, a page at a time.

    No transaction stays open between pages: a job that changes meanwhile shows as it was when its
    page was read. Raises UserError when there is no such batch.
    """
    with database.read() as on:
        batch_id = require_batch(on, batch_name)
    after: tuple[str, int] | None = None
    while True:
        with database.read() as on:
            page = _page(on, batch_id, after, with_text)
        yield from page
        if len(page) < PAGE:
            return
        after = (page[-1].custom_id, page[-1].sample)


def _meanings(identifier: str) -> Iterator[ColumnElement[bool]]:
    custom_id = storable(identifier)
    named = (Job.custom_id == custom_id, Job.about.is_(None))
    yield PaperRow.id.in_(select(Job.paper_id).where(*named))
    if re.fullmatch(rf"[0-9a-f]{{{SHORTEST_HASH},64}}", identifier):
        # A range, not LIKE: it is what an index on text serves on both databases.
        yield PaperRow.sha256.between(identifier, identifier + "g")
    if re.fullmatch(r"[0-9]{1,18}", identifier):
        number = int(identifier)
        of_review = select(ReviewRow.paper_id).where(ReviewRow.id == number)
        yield (PaperRow.id == number) | PaperRow.id.in_(of_review)


def _paper(on: Connection, paper_id: int, identifier: str) -> PaperView:
    columns = (PaperRow.id, PaperRow.sha256, PaperRow.title, PaperRow.abstract, PaperRow.sections)
    query = select(*columns, func.length(PaperRow.body).label("n_chars"))
    row = on.execute(query.where(PaperRow.id == paper_id)).mappings().one()
    ids = on.scalars(
        select(ReviewRow.id).where(ReviewRow.paper_id == paper_id).order_by(ReviewRow.id)
    ).all()
    reviews = reviews_of(on, ids)
    jobs = _jobs(on, Job.paper_id == paper_id)
    named = [job.job for job in jobs if job.custom_id == storable(identifier)]
    return PaperView(
        **row,
        flags=_flags(on, named or [job.job for job in jobs]),
        jobs=tuple(jobs),
        reviews=tuple(reviews[review_id] for review_id in ids),
    )


def _jobs(on: Connection, *which: ColumnElement[bool]) -> list[JobView]:
    query = (
        select(
            *(Job.id.label("job"), BatchRow.name.label("batch"), Job.custom_id, Job.sample),
            *(Job.state, Job.error_kind, Job.error),
        )
        .join(BatchRow, BatchRow.id == Job.batch_id)
        .where(*which, Job.about.is_(None))
        .order_by(Job.id)
    )
    return [JobView(**row) for row in on.execute(query).mappings()]


def _flags(on: Connection, jobs: Sequence[int]) -> tuple[FlagView, ...]:
    """The flags of the jobs' files; samples of one file have the same ones."""
    found = flags_of(on, jobs)
    return tuple(dict.fromkeys(flag for job in jobs for flag in found.get(job, ())))


def _page(
    on: Connection, batch_id: int, after: tuple[str, int] | None, with_text: bool
) -> list[ExportLine]:
    query = _lines(batch_id, with_text)
    if after is not None:
        query = query.where(tuple_(Job.custom_id, Job.sample) > tuple_(*after))
    rows = _dicts(on.execute(query.limit(at_most(PAGE))))
    reviews = reviews_of(on, {row["review_id"] for row in rows if row["review_id"] is not None})
    flags = flags_of(on, [row["job"] for row in rows if row.pop("n_flags")])
    return [
        ExportLine(
            review=reviews.get(row.pop("review_id")), flags=tuple(flags.get(row["job"], ())), **row
        )
        for row in rows
    ]


def _dicts(result: Result[*tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Rows by column; SQLAlchemy's own mappings take several times as long."""
    names = tuple(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result.all()]


def _lines(batch_id: int, with_text: bool) -> Select[*tuple[Any, ...]]:
    return (
        select(
            *(BatchRow.name.label("batch"), Job.custom_id, Job.sample, Job.id.label("job")),
            *(Job.state, Job.error_kind, Job.error, Job.source, Job.seed, Job.n_flags),
            *(PaperRow.title.label("paper_title"), PaperRow.sha256.label("paper_sha256")),
            (func.coalesce(JobInput.text, PaperRow.body) if with_text else null()).label("text"),
            ReviewRow.id.label("review_id"),
        )
        .join_from(Job, BatchRow, BatchRow.id == Job.batch_id)
        .outerjoin(PaperRow, PaperRow.id == Job.paper_id)
        .outerjoin(JobInput, JobInput.job_id == Job.id)
        .outerjoin(
            ReviewRow,
            (ReviewRow.job_id == func.coalesce(Job.duplicate_of, Job.id))
            & (Job.state == "succeeded"),
        )
        .where(Job.batch_id == batch_id)
        .order_by(Job.custom_id, Job.sample)
    )


def reviews_of(on: Connection, ids: Iterable[int]) -> dict[int, ReviewView]:
    """Fetch reviews with their items, by id."""
    wanted = list(ids)
    items = _items(on, wanted)
    query = (
        select(*_REVIEW_COLUMNS)
        .join(ReviewerRow, ReviewerRow.id == ReviewRow.reviewer_id)
        .where(among(on, ReviewRow.id, wanted))
    )
    return {
        row["id"]: ReviewView(
            **{**row, "empty_aspects": tuple(row["empty_aspects"])},
            items=tuple(items.get(row["id"], ())),
        )
        for row in _dicts(on.execute(query))
    }


def item_counts(database: Database, review_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """Count the items of reviews as {review id: {aspect: items}}, without those that have none."""
    with database.read() as on:
        return count_items(on, review_ids)


def count_items(on: Connection, review_ids: Iterable[int]) -> dict[int, dict[str, int]]:
    """Count items within a transaction, as `item_counts` does."""
    query = (
        select(ItemRow.review_id, ItemRow.aspect, func.count())
        .where(among(on, ItemRow.review_id, review_ids))
        .group_by(ItemRow.review_id, ItemRow.aspect)
        .order_by(ItemRow.review_id, ItemRow.aspect)
    )
    counts: dict[int, dict[str, int]] = {}
    for review_id, aspect, count in on.execute(query):
        counts.setdefault(review_id, {})[aspect] = count
    return counts


def _items(on: Connection, review_ids: Sequence[int]) -> dict[int, list[NewItem]]:
    query = (
        select(ItemRow.review_id, ItemRow.aspect, ItemRow.position, ItemRow.title, ItemRow.text)
        .where(among(on, ItemRow.review_id, review_ids))
        # As they were written: aspects in the answer's order.
        .order_by(ItemRow.id)
    )
    items: dict[int, list[NewItem]] = {}
    for review_id, aspect, position, title, text in on.execute(query).all():
        items.setdefault(review_id, []).append(NewItem(aspect, position, title, text))
    return items
