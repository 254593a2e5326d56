"""A stored comparison read from the database as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import aliased

from db.schema import ItemRow, PaperRow, ReviewerRow, ReviewRow
from db.schema_judging import ComparedPaper, ComparisonRow, MatchCount, SplitUse, Verdict
from db.session import Database
from errors import UserError
from judge.overlap import Overlap
from judge.win_rates import Ballot


@dataclass(frozen=True)
class ComparedReviewer:
    """A reviewer version that takes part."""

    name: str
    version: int
    kind: str

    @property
    def label(self) -> str:
        """Name and version for people."""
        return f"{self.name} v{self.version}"


@dataclass(frozen=True)
class PaperRecord:
    """A paper of the comparison with the reviews that stand for each side."""

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
    """One answer of a judge, or one count of hits with the scores it came from."""

    paper_id: int
    method: str
    aspect: str | None
    repetition: int
    ballot: Ballot
    a_score: float | None
    b_score: float | None
    a_items: int | None
    b_items: int | None
    rationale: str


@dataclass(frozen=True)
class CountRecord:
    """Overlap of a generated review with one reference review, None for their union."""

    paper_id: int
    role: str
    cut: str
    generated_review_id: int
    reference_review_id: int | None
    overlap: Overlap


@dataclass(frozen=True)
class ReviewSize:
    """How many items a review has by aspect; aspects without any are in `empty`."""

    items: Mapping[str, int]
    empty: tuple[str, ...]


@dataclass(frozen=True)
class ComparisonRecord:
    """All that is stored of a comparison but texts. `split_uses` counts looks at each split."""

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


def read_comparison(database: Database, comparison_id: int) -> ComparisonRecord:
    """Read a comparison. Raises UserError, which lists those there are, when it is not there."""
    with database.read() as on:
        heads = _heads(on)
        if comparison_id not in heads:
            raise UserError(_not_there(comparison_id, heads))
        row, a, b, reference = heads[comparison_id]
        papers = _papers(on, comparison_id)
        return ComparisonRecord(
            id=comparison_id,
            a=a,
            b=b,
            reference=reference,
            config=row.config,
            created_at=row.created_at,
            papers=papers,
            verdicts=_verdicts(on, comparison_id),
            counts=_counts(on, comparison_id),
            sizes=_sizes(on, [paper for paper in papers if paper.excluded is None]),
            split_uses=_split_uses(on, comparison_id),
        )


def _heads(
    on: Connection,
) -> dict[int, tuple[Any, ComparedReviewer, ComparedReviewer, ComparedReviewer]]:
    sides = [aliased(ReviewerRow) for _ in range(3)]
    columns = [getattr(side, name) for side in sides for name in ("name", "version", "kind")]
    query = select(ComparisonRow.id, ComparisonRow.config, ComparisonRow.created_at, *columns)
    keys = (ComparisonRow.a_id, ComparisonRow.b_id, ComparisonRow.reference_id)
    for side, key in zip(sides, keys, strict=True):
        query = query.join(side, side.id == key)
    return {
        row.id: (
            row,
            ComparedReviewer(*row[3:6]),
            ComparedReviewer(*row[6:9]),
            ComparedReviewer(*row[9:12]),
        )
        for row in on.execute(query.order_by(ComparisonRow.id))
    }


def _not_there(
    comparison_id: int,
    heads: Mapping[int, tuple[Any, ComparedReviewer, ComparedReviewer, ComparedReviewer]],
) -> str:
    if not heads:
        return "There is no comparison yet: make one with `referee judge match A B --reference R`."
    there = "; ".join(f"{key}: {a.label} against {b.label}" for key, (_, a, b, _) in heads.items())
    return f"There is no comparison {comparison_id}. There are {there}."


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
    query = select(Verdict.__table__).where(Verdict.comparison_id == comparison_id)
    return tuple(
        VerdictRecord(
            *(row.paper_id, row.method, row.aspect, row.repetition),
            Ballot(row.shown_first, row.outcome),
            *(row.a_score, row.b_score, row.a_items, row.b_items, row.rationale),
        )
        for row in on.execute(query.order_by(Verdict.id))
    )


def _counts(on: Connection, comparison_id: int) -> tuple[CountRecord, ...]:
    query = select(MatchCount.__table__).where(MatchCount.comparison_id == comparison_id)
    return tuple(
        CountRecord(
            *(row.paper_id, row.role, row.cut, row.generated_review_id, row.reference_review_id),
            Overlap(
                *(row.n_reference, row.n_generated, row.hits_reference, row.hits_generated),
                row.n_pairs,
            ),
        )
        for row in on.execute(query.order_by(MatchCount.id))
    )


def _sizes(on: Connection, papers: Sequence[PaperRecord]) -> dict[int, ReviewSize]:
    paper_ids = [paper.id for paper in papers]
    counted: dict[int, Counter[str]] = {}
    items = (
        select(ItemRow.review_id, ItemRow.aspect, func.count())
        .join(ReviewRow, ReviewRow.id == ItemRow.review_id)
        .where(ReviewRow.paper_id.in_(paper_ids))
        .group_by(ItemRow.review_id, ItemRow.aspect)
    )
    for review_id, aspect, count in on.execute(items):
        counted.setdefault(review_id, Counter())[aspect] = count
    empties = select(ReviewRow.id, ReviewRow.empty_aspects).where(ReviewRow.paper_id.in_(paper_ids))
    return {
        review_id: ReviewSize(counted.get(review_id, Counter()), tuple(empty))
        for review_id, empty in on.execute(empties)
    }


def _split_uses(on: Connection, comparison_id: int) -> dict[str, int]:
    """Count how often each split of this comparison was looked at, by any comparison."""
    mine = select(SplitUse.split).where(SplitUse.comparison_id == comparison_id)
    query = (
        select(SplitUse.split, func.count().label("uses"))
        .where(SplitUse.split.in_(mine))
        .group_by(SplitUse.split)
        .order_by(SplitUse.split)
    )
    return {row.split: row.uses for row in on.execute(query)}
