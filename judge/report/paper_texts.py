"""The texts of one compared paper, side by side, with their matches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from db.comparison_records import (
    ComparisonRecord,
    PaperRecord,
    PointMatchRecord,
    read_paper_reviews,
)
from db.points import StoredPoint
from db.reviews import ReviewView
from db.session import Database
from models.text.aspects import find_aspect_set


@dataclass(frozen=True)
class PointText:
    """A point: `number` counts within its side of the page; title is empty for free text."""

    id: int
    number: int
    title: str
    text: str


@dataclass(frozen=True)
class PointSection:
    """The points under one heading; None for free text. No points: nothing to say there."""

    heading: str | None
    points: tuple[PointText, ...]


@dataclass(frozen=True)
class DisplayedReview:
    """One review of the page, its points by section and its text as it was written."""

    id: int
    name: str
    rating: float | None
    sections: tuple[PointSection, ...]
    raw: str

    @property
    def points(self) -> tuple[PointText, ...]:
        """All points, in order."""
        return tuple(point for section in self.sections for point in section.points)


@dataclass(frozen=True)
class MatchedPointRow:
    """A reference point beside what each rival says of it, best match first."""

    reference: PointText
    a: tuple[tuple[PointText, PointMatchRecord], ...]
    b: tuple[tuple[PointText, PointMatchRecord], ...]

    @property
    def a_or_b(self) -> bool:
        """Whether at least one of the rivals makes the point."""
        return bool(self.a or self.b)


@dataclass(frozen=True)
class PaperTexts:
    """A page: the reviews of both rivals, the human ones, and the rows of matched points."""

    a: DisplayedReview
    b: DisplayedReview
    references: tuple[DisplayedReview, ...]
    rows: tuple[MatchedPointRow, ...]
    unmatched_a: tuple[PointText, ...]
    unmatched_b: tuple[PointText, ...]


def read_texts(database: Database, record: ComparisonRecord, paper: PaperRecord) -> PaperTexts:
    """Read the reviews of one paper with the points that were matched."""
    ids = (paper.a_review_id, paper.b_review_id, *paper.reference_review_ids)
    extractor = record.config.get("extractor")
    found = read_paper_reviews(
        database, record.id, ids, extractor if isinstance(extractor, str) else None
    )
    reviews, points = found.reviews, found.points
    a, b = (_review(reviews[i], points.get(i, ()), 0) for i in ids[:2])
    references, so_far = [], 0
    for review_id in ids[2:]:
        review = _review(reviews[review_id], points.get(review_id, ()), so_far)
        references.append(review)
        so_far += len(review.points)
    return _align_matches(a, b, references, found.matches)


def _review(view: ReviewView, points: Sequence[StoredPoint], numbered: int) -> DisplayedReview:
    titles = {(item.aspect, item.title) for item in view.items if item.title}
    texts = [
        (point.aspect, PointText(point.id, numbered + place, *_split_title(point, titles)))
        for place, point in enumerate(points, 1)
    ]
    aspects = find_aspect_set(view.aspects)
    headings = aspects.headings if aspects else {}
    keys = list(headings)
    found = dict.fromkeys([aspect for aspect, _ in texts] + list(view.empty_aspects))
    # Free text and aspects that the set no longer has come last.
    order = sorted(found, key=lambda key: keys.index(key) if key in headings else len(keys))
    return DisplayedReview(
        id=view.id,
        name=view.external_id or f"{view.reviewer} v{view.version}",
        rating=view.rating,
        sections=tuple(
            PointSection(
                aspect and headings.get(aspect, aspect),
                tuple(text for its_aspect, text in texts if its_aspect == aspect),
            )
            for aspect in order
        ),
        raw=view.raw,
    )


def _split_title(point: StoredPoint, titles: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Split a point into title and text, if it is an item."""
    fitting = [t for aspect, t in titles if aspect == point.aspect and point.text.startswith(t)]
    title = max(fitting, key=len, default="")
    return title, point.text[len(title) :].lstrip(" :.\n") if title else point.text


def _align_matches(
    a: DisplayedReview,
    b: DisplayedReview,
    references: Sequence[DisplayedReview],
    matches: Sequence[PointMatchRecord],
) -> PaperTexts:
    made = [match for match in matches if match.matched]
    said = {match.generated_point_id for match in made}

    def beside(
        point: PointText, review: DisplayedReview
    ) -> tuple[tuple[PointText, PointMatchRecord], ...]:
        by_id = {each.id: each for each in review.points}
        mine = [m for m in made if m.reference_point_id == point.id]
        return tuple(
            (by_id[m.generated_point_id], m) for m in mine if m.generated_point_id in by_id
        )

    rows = [
        MatchedPointRow(point, beside(point, a), beside(point, b))
        for review in references
        for point in review.points
    ]
    return PaperTexts(
        *(a, b, tuple(references), tuple(rows)),
        unmatched_a=tuple(point for point in a.points if point.id not in said),
        unmatched_b=tuple(point for point in b.points if point.id not in said),
    )
