"""A stored comparison as reports read it: papers, verdicts, counts, reviews and matched points."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import aliased

from db.column_types import among
from db.points import StoredPoint
from db.reviewers import aspects_of
from db.reviews import ReviewView, count_items, reviews_of
from db.schema import PaperRow, ReviewerRow, ReviewRow
from db.schema_judging import (
    ComparedPaper,
    ComparisonRow,
    Cut,
    MatchCount,
    Outcome,
    PointMatch,
    PointRow,
    Role,
    ShownFirst,
    SplitUse,
    Verdict,
)
from db.session import Database
from errors import UserError


@dataclass(frozen=True)
class ComparedReviewer:
    """A reviewer version of a comparison."""

    name: str
    version: int
    kind: str

    @property
    def label(self) -> str:
        """Name and version, as reports print them."""
        return f"{self.name} v{self.version}"


@dataclass(frozen=True)
class PaperRecord:
    """A paper of the comparison with the review of each rival and the reference reviews."""

    id: int
    title: str
    sha256: str
    venue: str | None
    decision: str | None
    a_review_id: int
    b_review_id: int
    reference_review_ids: tuple[int, ...]
    excluded: str | None
    matched: bool


@dataclass(frozen=True)
class VerdictRecord:
    """One answer of a judge, or one count of hits with the scores behind it."""

    paper_id: int
    method: str
    aspect: str | None
    repetition: int
    shown_first: ShownFirst
    outcome: Outcome
    a_score: float | None
    b_score: float | None
    a_items: int | None
    b_items: int | None
    rationale: str


@dataclass(frozen=True)
class CountRecord:
    """Matched points of a generated and a reference review; `reference_review_id` is None for the
    union of the reference reviews. The counts are those of `MatchCount`."""

    paper_id: int
    role: Role
    cut: Cut
    generated_review_id: int
    reference_review_id: int | None
    n_reference: int
    n_generated: int
    hits_reference: int
    hits_generated: int
    n_pairs: int


@dataclass(frozen=True)
class ReviewSize:
    """Number of items of a review by aspect; `empty` names the aspects without any."""

    items: Mapping[str, int]
    empty: tuple[str, ...]


@dataclass(frozen=True)
class ComparisonRecord:
    """A comparison without its texts.

    `sizes` are by review id, `split_uses` counts the comparisons that used each of its splits.
    """

    id: int
    a: ComparedReviewer
    b: ComparedReviewer
    reference: ComparedReviewer
    config: Mapping[str, Any]
    created_at: float
    papers: tuple[PaperRecord, ...]
    verdicts: tuple[VerdictRecord, ...]
    counts: tuple[CountRecord, ...]
    sizes: Mapping[int, ReviewSize]
    split_uses: Mapping[str, int]
    #: Names of the aspect sets of a, b and the reference.
    aspect_sets: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class PointMatchRecord:
    """Two points that the matcher took for the same, or nearly so. Similarity is 0 to 10."""

    reference_point_id: int
    generated_point_id: int
    similarity: float
    matched: bool
    votes: int
    rationale: str


@dataclass(frozen=True)
class PaperReviews:
    """Reviews of one paper and their points, by review id, with the matches between the points."""

    reviews: Mapping[int, ReviewView]
    points: Mapping[int, tuple[StoredPoint, ...]]
    matches: tuple[PointMatchRecord, ...]


@dataclass(frozen=True)
class _Head:
    id: int
    a: ComparedReviewer
    b: ComparedReviewer
    reference: ComparedReviewer
    config: Mapping[str, Any]
    created_at: float
    aspect_sets: tuple[str | None, ...]


def read_comparison(database: Database, comparison_id: int) -> ComparisonRecord:
    """Read a comparison in one transaction. Raises UserError, naming the others, if unknown."""
    with database.read() as on:
        heads = _heads(on)
        head = next((head for head in heads if head.id == comparison_id), None)
        if head is None:
            raise UserError(_unknown(comparison_id, heads))
        papers = _papers(on, comparison_id)
        return ComparisonRecord(
            **vars(head),
            papers=papers,
            verdicts=_verdicts(on, comparison_id),
            counts=_counts(on, comparison_id),
            sizes=_sizes(on, papers),
            split_uses=_split_uses(on, comparison_id),
        )


def _heads(on: Connection) -> list[_Head]:
    """All comparisons by id."""
    a, b, reference = aliased(ReviewerRow), aliased(ReviewerRow), aliased(ReviewerRow)
    query = (
        select(
            *(ComparisonRow.id, ComparisonRow.config, ComparisonRow.created_at),
            *(
                column
                for side in (a, b, reference)
                for column in (side.name, side.version, side.kind)
            ),
            *(aspects_of(side) for side in (a, b, reference)),
        )
        .join(a, a.id == ComparisonRow.a_id)
        .join(b, b.id == ComparisonRow.b_id)
        .join(reference, reference.id == ComparisonRow.reference_id)
        .order_by(ComparisonRow.id)
    )
    return [
        _Head(
            id=row.id,
            a=ComparedReviewer(*row[3:6]),
            b=ComparedReviewer(*row[6:9]),
            reference=ComparedReviewer(*row[9:12]),
            config=row.config,
            created_at=row.created_at,
            aspect_sets=tuple(row[12:15]),
        )
        for row in on.execute(query)
    ]


def _unknown(comparison_id: int, heads: Sequence[_Head]) -> str:
    if not heads:
        return "There is no comparison yet: make one with `referee judge match A B --reference R`."
    known = "; ".join(f"{head.id}: {head.a.label} against {head.b.label}" for head in heads)
    return f"There is no comparison {comparison_id}. There are {known}."


def _papers(on: Connection, comparison_id: int) -> tuple[PaperRecord, ...]:
    query = (
        select(
            *(PaperRow.id, PaperRow.title, PaperRow.sha256, PaperRow.venue, PaperRow.decision),
            *(ComparedPaper.a_review_id, ComparedPaper.b_review_id),
            *(ComparedPaper.reference_review_ids, ComparedPaper.excluded),
            ComparedPaper.matched_at.is_not(None).label("matched"),
        )
        .join(PaperRow, PaperRow.id == ComparedPaper.paper_id)
        .where(ComparedPaper.comparison_id == comparison_id)
        .order_by(PaperRow.id)
    )
    return tuple(
        PaperRecord(**{**row, "reference_review_ids": tuple(row["reference_review_ids"])})
        for row in on.execute(query).mappings()
    )


def _verdicts(on: Connection, comparison_id: int) -> tuple[VerdictRecord, ...]:
    query = (
        select(
            *(Verdict.paper_id, Verdict.method, Verdict.aspect, Verdict.repetition),
            *(Verdict.shown_first, Verdict.outcome, Verdict.a_score, Verdict.b_score),
            *(Verdict.a_items, Verdict.b_items, Verdict.rationale),
        )
        .where(Verdict.comparison_id == comparison_id)
        .order_by(Verdict.id)
    )
    return tuple(VerdictRecord(**row) for row in on.execute(query).mappings())


def _counts(on: Connection, comparison_id: int) -> tuple[CountRecord, ...]:
    query = (
        select(
            *(MatchCount.paper_id, MatchCount.role, MatchCount.cut),
            *(MatchCount.generated_review_id, MatchCount.reference_review_id),
            *(MatchCount.n_reference, MatchCount.n_generated),
            *(MatchCount.hits_reference, MatchCount.hits_generated, MatchCount.n_pairs),
        )
        .where(MatchCount.comparison_id == comparison_id)
        .order_by(MatchCount.id)
    )
    return tuple(CountRecord(**row) for row in on.execute(query).mappings())


def _sizes(on: Connection, papers: Sequence[PaperRecord]) -> dict[int, ReviewSize]:
    review_ids = {
        review_id
        for paper in papers
        if paper.excluded is None
        for review_id in (paper.a_review_id, paper.b_review_id, *paper.reference_review_ids)
    }
    counted = count_items(on, review_ids)
    query = select(ReviewRow.id, ReviewRow.empty_aspects).where(among(on, ReviewRow.id, review_ids))
    return {
        review_id: ReviewSize(counted.get(review_id, {}), tuple(empty))
        for review_id, empty in on.execute(query)
    }


def _split_uses(on: Connection, comparison_id: int) -> dict[str, int]:
    mine = select(SplitUse.split).where(SplitUse.comparison_id == comparison_id)
    query = (
        select(SplitUse.split, func.count())
        .where(SplitUse.split.in_(mine))
        .group_by(SplitUse.split)
        .order_by(SplitUse.split)
    )
    return dict(on.execute(query).all())


def read_paper_reviews(
    database: Database, comparison_id: int, review_ids: Collection[int], extractor: str | None
) -> PaperReviews:
    """Read reviews of one paper with their points and the comparison's matches between these.

    Points are those of `extractor` where a review has any, else of the first extractor by name.
    """
    with database.read() as on:
        points = _points(on, review_ids, extractor)
        return PaperReviews(
            reviews=reviews_of(on, review_ids),
            points=points,
            matches=_matches(on, comparison_id, [p.id for each in points.values() for p in each]),
        )


def _points(
    on: Connection, review_ids: Collection[int], extractor: str | None
) -> dict[int, tuple[StoredPoint, ...]]:
    query = (
        select(
            *(PointRow.extractor, PointRow.id, PointRow.review_id, PointRow.position),
            *(PointRow.aspect, PointRow.text),
        )
        .where(PointRow.review_id.in_(review_ids))
        .order_by(PointRow.extractor, PointRow.position)
    )
    found: dict[int, dict[str, list[StoredPoint]]] = {}
    for row in on.execute(query):
        point = StoredPoint(row.id, row.review_id, row.position, row.aspect, row.text)
        found.setdefault(point.review_id, {}).setdefault(row.extractor, []).append(point)
    return {
        review_id: tuple(by_extractor.get(extractor or "") or next(iter(by_extractor.values())))
        for review_id, by_extractor in found.items()
    }


def _matches(
    on: Connection, comparison_id: int, point_ids: Sequence[int]
) -> tuple[PointMatchRecord, ...]:
    """Best first."""
    query = (
        select(
            *(PointMatch.reference_point_id, PointMatch.generated_point_id),
            *(PointMatch.similarity, PointMatch.matched, PointMatch.votes, PointMatch.rationale),
        )
        .where(
            PointMatch.comparison_id == comparison_id,
            PointMatch.reference_point_id.in_(point_ids),
            PointMatch.generated_point_id.in_(point_ids),
        )
        .order_by(PointMatch.similarity.desc(), PointMatch.id)
    )
    return tuple(PointMatchRecord(**row) for row in on.execute(query).mappings())
