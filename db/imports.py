"""Import of reviews that were written elsewhere, once per external id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, insert

from db.column_types import insert_or_ignore
from db.completion import NewItem
from db.paper_contents import PaperContent, store_papers
from db.reviewers import ReviewerVersion
from db.schema import ItemRow, ReviewRow
from db.session import Database

#: Reviews that one transaction stores.
CHUNK = 200

#: Fields of a FrozenReview that are stored in other tables.
_SEPARATE_TABLES = ("paper", "items")


@dataclass(frozen=True)
class FrozenReview:
    """A review that was written elsewhere. `fields` holds what has no column of its own."""

    external_id: str
    paper: PaperContent
    raw: str
    items: Sequence[NewItem] = ()
    empty_aspects: Sequence[str] = ()
    unplaced: str = ""
    rating: float | None = None
    confidence: float | None = None
    is_meta: bool = False
    fields: Mapping[str, Any] | None = None
    finish: str | None = None
    n_prompt_tokens: int | None = None
    n_output_tokens: int | None = None
    gate: Sequence[Mapping[str, Any]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """How many reviews were stored, and how many were known already."""

    new: int
    known: int


def import_reviews(
    database: Database, reviewer: ReviewerVersion, rows: Sequence[FrozenReview]
) -> Imported:
    """Store the reviews under a reviewer; one with a known external_id is not changed."""
    new = 0
    for start in range(0, len(rows), CHUNK):
        with database.write() as on:
            new += _import(on, reviewer, rows[start : start + CHUNK])
    return Imported(new=new, known=len(rows) - new)


def _import(on: Connection, reviewer: ReviewerVersion, rows: Sequence[FrozenReview]) -> int:
    papers = store_papers(on, [row.paper for row in rows])
    new = 0
    for row in rows:
        stored = on.scalar(
            insert_or_ignore(on, ReviewRow)
            .values(
                paper_id=papers[row.paper.sha256],
                reviewer_id=reviewer.id,
                **{
                    name: value for name, value in vars(row).items() if name not in _SEPARATE_TABLES
                },
            )
            .returning(ReviewRow.id)
        )
        if stored is None:
            continue
        new += 1
        if row.items:
            on.execute(
                insert(ItemRow), [{"review_id": stored, **asdict(item)} for item in row.items]
            )
    return new
