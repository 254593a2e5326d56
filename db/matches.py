"""Matches, counts and verdicts of a comparison, stored once a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, exists, insert, select

from db.claims import Claim
from db.column_types import insert_or_ignore
from db.comparisons import finish_paper
from db.completion import Cost, commit
from db.schema_judging import MatchCount, PointMatch, Verdict
from db.session import Database


@dataclass(frozen=True)
class NewMatch:
    """A pair of points, by id; `matched` when the matcher takes them for the same."""

    reference_point_id: int
    generated_point_id: int
    matcher: str
    similarity: float
    matched: bool
    votes: int = 1
    relatedness: str | None = None
    specificity: str | None = None
    rationale: str = ""


@dataclass(frozen=True)
class NewCount:
    """Counts of a generated review against a reference review, None for their union."""

    role: str
    cut: str
    generated_review_id: int
    reference_review_id: int | None
    n_reference: int
    n_generated: int
    hits_reference: int
    hits_generated: int
    n_pairs: int


@dataclass(frozen=True)
class NewVerdict:
    """Who won by one way of judging, seen from a; scores are hits where hits decide."""

    method: str
    aspect: str | None
    outcome: str
    shown_first: str = "neither"
    repetition: int = 0
    a_score: float | None = None
    b_score: float | None = None
    a_items: int | None = None
    b_items: int | None = None
    rationale: str = ""


@dataclass(frozen=True)
class MatchedPaper:
    """Everything that matching says of one paper."""

    paper_id: int
    matches: Sequence[NewMatch]
    counts: Sequence[NewCount]
    verdicts: Sequence[NewVerdict]


def store_matched(database: Database, comparison_id: int, papers: Sequence[MatchedPaper]) -> int:
    """Store papers in one transaction; give how many nobody else had stored."""
    with database.write() as on:
        return sum(_store(on, comparison_id, paper) for paper in papers)


def _store(on: Connection, comparison_id: int, paper: MatchedPaper) -> bool:
    if not finish_paper(on, comparison_id, paper.paper_id):
        return False
    # By `vars`: `asdict` copies all that lies inside, which took half of a comparison's time.
    if paper.matches:
        head: Mapping[str, object] = {"comparison_id": comparison_id}
        # The null's and the ceiling's pairs can be met again from another paper.
        on.execute(
            insert_or_ignore(on, PointMatch), [{**head, **vars(row)} for row in paper.matches]
        )
    head = {"comparison_id": comparison_id, "paper_id": paper.paper_id}
    for table, rows in ((MatchCount, paper.counts), (Verdict, paper.verdicts)):
        if rows:
            on.execute(insert(table), [{**head, **vars(row)} for row in rows])
    return True


def store_verdicts(
    database: Database, comparison_id: int, paper_id: int, verdicts: Sequence[NewVerdict]
) -> None:
    """Store verdicts; those that are there already stay as they are."""
    with database.write() as on:
        _store_verdicts(on, comparison_id, paper_id, verdicts)


def commit_verdicts(
    database: Database, claim: Claim, comparison_id: int, verdicts: Sequence[NewVerdict], cost: Cost
) -> bool:
    """Store the verdicts of a judge's job and end the job, in one transaction.

    False: the job was lost before, and nothing is written.
    """
    return commit(
        database,
        claim,
        cost,
        lambda on: _store_verdicts(on, comparison_id, claim.paper_id, verdicts),
    )


def _store_verdicts(
    on: Connection, comparison_id: int, paper_id: int, verdicts: Sequence[NewVerdict]
) -> None:
    if verdicts:
        head = {"comparison_id": comparison_id, "paper_id": paper_id}
        on.execute(insert_or_ignore(on, Verdict), [{**head, **vars(v)} for v in verdicts])


def judged_orders(database: Database, comparison_id: int, method: str) -> set[tuple[int, str, int]]:
    """(paper, shown first, repetition) of the whole-review verdicts that a method has given."""
    query = select(Verdict.paper_id, Verdict.shown_first, Verdict.repetition).where(
        Verdict.comparison_id == comparison_id, Verdict.method == method, Verdict.aspect.is_(None)
    )
    with database.read() as on:
        return {(row.paper_id, row.shown_first, row.repetition) for row in on.execute(query)}


def is_judged(
    database: Database, comparison_id: int, method: str, question: tuple[int, str, int]
) -> bool:
    """Whether a method has given the whole-review verdict on (paper, shown first, repetition)."""
    paper_id, shown_first, repetition = question
    found = exists().where(
        Verdict.comparison_id == comparison_id,
        Verdict.paper_id == paper_id,
        Verdict.method == method,
        Verdict.aspect.is_(None),
        Verdict.shown_first == shown_first,
        Verdict.repetition == repetition,
    )
    with database.read() as on:
        return bool(on.scalar(select(found)))
