"""Points of reviews, and the review texts that they are extracted from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from db.column_types import in_lists, insert_or_ignore
from db.reviewers import aspects_of
from db.schema import ItemRow, ReviewerRow, ReviewRow
from db.schema_judging import PointRow
from db.session import Database


@dataclass(frozen=True)
class ReviewText:
    """A review as it was parsed. `items` are (aspect, title, text), in the review's order.

    All text of a review that was never parsed, such as a human one, is in `unplaced`.
    """

    review_id: int
    items: tuple[tuple[str, str, str], ...]
    unplaced: str
    raw: str
    #: Name of the aspect set that its reviewer writes in.
    aspects: str | None = None


@dataclass(frozen=True)
class StoredPoint:
    """A point of a review; `position` counts from 0 over the whole review."""

    id: int
    review_id: int
    position: int
    aspect: str | None
    text: str


@dataclass(frozen=True)
class NewPoint:
    """An extracted point; its position is its index in the list."""

    aspect: str | None
    text: str


def read_reviews(database: Database, review_ids: Sequence[int]) -> list[ReviewText]:
    """The texts of reviews, in the order of the ids."""
    items: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
    rows: dict[int, Row[Any]] = {}
    columns = (
        *(ReviewRow.id, ReviewRow.unplaced, ReviewRow.raw, ReviewRow.empty_aspects),
        aspects_of(),
    )
    with database.read() as on:
        for some in in_lists(sorted(set(review_ids))):
            reviews = (
                select(*columns)
                .join(ReviewerRow, ReviewerRow.id == ReviewRow.reviewer_id)
                .where(ReviewRow.id.in_(some))
            )
            rows |= {row.id: row for row in on.execute(reviews)}
            found = (
                select(ItemRow.review_id, ItemRow.aspect, ItemRow.title, ItemRow.text)
                .where(ItemRow.review_id.in_(some))
                .order_by(ItemRow.id)
            )
            for review_id, *item in on.execute(found):
                items[review_id].append((item[0], item[1], item[2]))
    return [_review(rows[review_id], items[review_id]) for review_id in review_ids]


def _review(row: Row[Any], items: Sequence[tuple[str, str, str]]) -> ReviewText:
    unparsed = not (items or row.empty_aspects or row.unplaced)
    return ReviewText(
        *(row.id, tuple(items), row.raw if unparsed else row.unplaced, row.raw),
        aspects=row.aspects,
    )


def store_points(
    database: Database, extractor: str, found: Mapping[int, Sequence[NewPoint]]
) -> None:
    """Store {review id: points}; a review that has points of this extractor keeps them."""
    rows = [
        {
            "review_id": review_id,
            "extractor": extractor,
            "position": position,
            "aspect": point.aspect,
            "text": point.text,
        }
        for review_id, points in sorted(found.items())
        for position, point in enumerate(points)
    ]
    if rows:
        with database.write() as on:
            on.execute(insert_or_ignore(on, PointRow), rows)


def read_points(
    database: Database, extractor: str, review_ids: Sequence[int]
) -> dict[int, tuple[StoredPoint, ...]]:
    """{review id: points by position} of the reviews that have any."""
    found: dict[int, list[StoredPoint]] = defaultdict(list)
    with database.read() as on:
        for some in in_lists(sorted(set(review_ids))):
            for point in _points(on, extractor, some):
                found[point.review_id].append(point)
    return {review_id: tuple(points) for review_id, points in found.items()}


def _points(on: Connection, extractor: str, review_ids: Sequence[int]) -> list[StoredPoint]:
    query = (
        select(PointRow.id, PointRow.review_id, PointRow.position, PointRow.aspect, PointRow.text)
        .where(PointRow.extractor == extractor, PointRow.review_id.in_(review_ids))
        .order_by(PointRow.review_id, PointRow.position)
    )
    return [StoredPoint(*row) for row in on.execute(query)]
