"""Comparisons of two reviewers against a reference: creating them and choosing their papers."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, case, func, select, update

from db import reviewers
from db.column_types import in_lists, insert_or_ignore, now
from db.reviewers import ReviewerVersion
from db.schema import BatchRow, Job, PaperRow, ReviewRow
from db.schema_judging import ComparedPaper, SplitUse, Verdict
from db.schema_judging import ComparisonRow as Row
from db.session import Database
from errors import UserError


@dataclass(frozen=True)
class Comparison:
    """Two reviewer versions compared with a reference, under one configuration."""

    id: int
    a: ReviewerVersion
    b: ReviewerVersion
    reference: ReviewerVersion
    config: Mapping[str, Any]


@dataclass(frozen=True)
class ComparisonPaper:
    """A paper that both rivals and the reference have reviewed."""

    paper_id: int
    sha256: str
    title: str
    a_review: int
    b_review: int
    reference_reviews: tuple[int, ...]
    null_paper_id: int | None = None
    excluded: str | None = None


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a version's reviews, or those of one of its batches."""

    reviewer: ReviewerVersion
    batch: str | None = None


@dataclass(frozen=True)
class WinCounts:
    """Papers on which a's whole review won and lost against b's, by one method."""

    a_id: int
    b_id: int
    wins: int
    losses: int


def open_comparison(
    database: Database,
    a: ReviewerVersion,
    b: ReviewerVersion,
    reference: ReviewerVersion,
    config: Mapping[str, Any],
) -> Comparison:
    """Return the comparison of these versions under this configuration; create it if needed."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    key = {
        "a_id": a.id,
        "b_id": b.id,
        "reference_id": reference.id,
        "config_sha256": hashlib.sha256(canonical.encode()).hexdigest(),
    }
    with database.write() as on:
        on.execute(insert_or_ignore(on, Row).values(config=config, **key))
        found = on.scalar(select(Row.id).filter_by(**key))
    assert found is not None
    return Comparison(found, a, b, reference, config)


def add_papers(
    database: Database, comparison: Comparison, papers: Sequence[ComparisonPaper]
) -> None:
    """Add papers to the comparison; a paper that it already has keeps its reviews."""
    rows = [
        {
            "comparison_id": comparison.id,
            "paper_id": paper.paper_id,
            "a_review_id": paper.a_review,
            "b_review_id": paper.b_review,
            "reference_review_ids": list(paper.reference_reviews),
            "null_paper_id": paper.null_paper_id,
            "excluded": paper.excluded,
        }
        for paper in papers
    ]
    if rows:
        with database.write() as on:
            on.execute(insert_or_ignore(on, ComparedPaper), rows)


def papers_of(
    database: Database, comparison_id: int, paper_id: int | None = None
) -> list[tuple[ComparisonPaper, bool]]:
    """The papers of a comparison by id, or a single one, each with whether it is matched."""
    query = (
        select(ComparedPaper, PaperRow.sha256, PaperRow.title)
        .join(PaperRow, PaperRow.id == ComparedPaper.paper_id)
        .where(ComparedPaper.comparison_id == comparison_id)
        .order_by(ComparedPaper.paper_id)
    )
    if paper_id is not None:
        query = query.where(ComparedPaper.paper_id == paper_id)
    with database.read() as on:
        rows = on.execute(query).mappings()
        return [(_stored(row), row["matched_at"] is not None) for row in rows]


def _stored(row: RowMapping) -> ComparisonPaper:
    return ComparisonPaper(
        paper_id=row["paper_id"],
        sha256=row["sha256"],
        title=row["title"],
        a_review=row["a_review_id"],
        b_review=row["b_review_id"],
        reference_reviews=tuple(row["reference_review_ids"]),
        null_paper_id=row["null_paper_id"],
        excluded=row["excluded"],
    )


def candidates(
    database: Database,
    a: Side,
    b: Side,
    reference: ReviewerVersion,
    only: Collection[str] | None = None,
) -> list[ComparisonPaper]:
    """The papers, by id, that all three have reviewed; `only` limits them to these sha256.

    A rival is represented by its latest review (sample 0), the reference by all its reviews if it
    is human or imported, else by its latest. A rival's own review is never part of the reference.
    """
    with database.read() as on:
        of_a, of_b = _latest(on, a), _latest(on, b)
        of_reference = _reference_reviews(on, reference)
        shared = sorted(of_a.keys() & of_b.keys() & of_reference.keys())
        papers = _papers(on, shared)
    found = []
    for paper_id in shared:
        sha256, title = papers[paper_id]
        held = tuple(r for r in of_reference[paper_id] if r not in (of_a[paper_id], of_b[paper_id]))
        if held and (only is None or sha256 in only):
            sides = (of_a[paper_id], of_b[paper_id], held)
            found.append(ComparisonPaper(paper_id, sha256, title, *sides))
    return found


def _latest(on: Connection, side: Side) -> dict[int, int]:
    """{paper: review}: the newest one of a job's first sample, else the first imported one."""
    query = (
        select(ReviewRow.paper_id, ReviewRow.id, ReviewRow.job_id)
        .outerjoin(Job, Job.id == ReviewRow.job_id)
        .where(
            ReviewRow.reviewer_id == side.reviewer.id,
            ~ReviewRow.is_meta,
            ReviewRow.job_id.is_(None) | (Job.sample == 0),
        )
        .order_by(ReviewRow.id)
    )
    if side.batch is not None:
        query = query.join(BatchRow, BatchRow.id == Job.batch_id).where(BatchRow.name == side.batch)
    found: dict[int, int] = {}
    for paper_id, review_id, job_id in on.execute(query):
        if job_id is not None:
            found[paper_id] = review_id
        else:
            found.setdefault(paper_id, review_id)
    return found


def _reference_reviews(on: Connection, reference: ReviewerVersion) -> dict[int, tuple[int, ...]]:
    if reference.kind not in ("human", "imported"):
        return {paper: (review,) for paper, review in _latest(on, Side(reference)).items()}
    query = select(ReviewRow.paper_id, ReviewRow.id).where(
        ReviewRow.reviewer_id == reference.id, ~ReviewRow.is_meta
    )
    found: dict[int, list[int]] = defaultdict(list)
    for paper_id, review_id in on.execute(query.order_by(ReviewRow.id)):
        found[paper_id].append(review_id)
    return {paper: tuple(reviews) for paper, reviews in found.items()}


def _papers(on: Connection, ids: Sequence[int]) -> dict[int, tuple[str, str]]:
    found: dict[int, tuple[str, str]] = {}
    for some in in_lists(ids):
        query = select(PaperRow.id, PaperRow.sha256, PaperRow.title).where(PaperRow.id.in_(some))
        found |= {row.id: (row.sha256, row.title) for row in on.execute(query)}
    return found


def reviewed_by(database: Database, reference: ReviewerVersion) -> list[tuple[int, str]]:
    """(id, sha256) of the papers that the reference has reviewed, by id."""
    with database.read() as on:
        ids = sorted(_reference_reviews(on, reference))
        papers = _papers(on, ids)
    return [(paper_id, papers[paper_id][0]) for paper_id in ids]


def reviewed_papers(database: Database, side: Side) -> frozenset[int]:
    """Ids of the papers that a side has reviewed."""
    with database.read() as on:
        return frozenset(_latest(on, side))


def record_split_use(database: Database, comparison_id: int, split: str) -> int:
    """Record that a comparison uses a split; return how many have, this one included."""
    with database.write() as on:
        on.execute(insert_or_ignore(on, SplitUse).values(split=split, comparison_id=comparison_id))
        uses = select(func.count()).select_from(SplitUse).where(SplitUse.split == split)
        return on.scalars(uses).one()


def finish_paper(on: Connection, comparison_id: int, paper_id: int) -> bool:
    """Mark a paper as matched; False when another process has done so, and stored its matches."""
    done = on.execute(
        update(ComparedPaper)
        .where(
            ComparedPaper.comparison_id == comparison_id,
            ComparedPaper.paper_id == paper_id,
            ComparedPaper.matched_at.is_(None),
            ComparedPaper.excluded.is_(None),
        )
        .values(matched_at=now())
    )
    return done.rowcount == 1


def find_comparison(database: Database, comparison_id: int) -> Comparison:
    """Return a stored comparison. Raises UserError when there is none."""
    query = select(Row.a_id, Row.b_id, Row.reference_id, Row.config).where(Row.id == comparison_id)
    with database.read() as on:
        row = on.execute(query).first()
    if row is None:
        raise UserError(f"There is no comparison {comparison_id}.")
    a, b, reference = (reviewers.get(database, version) for version in row[:3])
    assert a is not None
    assert b is not None
    assert reference is not None
    return Comparison(comparison_id, a, b, reference, row.config)


def win_counts(database: Database, comparison_id: int, method: str) -> WinCounts | None:
    """Count the verdicts of a method on whole reviews; None when there is no such comparison."""
    won, lost = (
        func.coalesce(func.sum(case((Verdict.outcome == outcome, 1), else_=0)), 0)
        for outcome in ("win", "lose")
    )
    query = (
        select(Row.a_id, Row.b_id, won, lost)
        .outerjoin(
            Verdict,
            (Verdict.comparison_id == Row.id)
            & (Verdict.method == method)
            & Verdict.aspect.is_(None),
        )
        .where(Row.id == comparison_id)
        .group_by(Row.id)
    )
    with database.read() as on:
        row = on.execute(query).first()
    return None if row is None else WinCounts(*row)
