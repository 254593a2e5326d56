"""Comparisons for tests of the report: rows in the real schema, counts that follow from matches.

Only the matches are made up, from a seed; no judge runs here.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from sqlalchemy import Connection, insert, select, update

from db import reviewers
from db.column_types import now
from db.completion import NewItem
from db.imports import FrozenReview, import_reviews
from db.paper_contents import PaperContent
from db.reviewers import ReviewerVersion
from db.reviews import reviews_of
from db.schema import PaperRow, ReviewRow
from db.schema_judging import (
    ComparedPaper,
    ComparisonRow,
    MatchCount,
    PointMatch,
    PointRow,
    SplitUse,
    Verdict,
)
from db.session import Database
from models.text.aspects import SEVEN

JUDGE = "judge:llama-3.3-70b:1f2e3d"
_SUBJECTS = (
    "sparse attention",
    "graph pooling",
    "offline control",
    "protein folding",
    "tabular data",
)
_REMARKS = (
    ("Clear motivation", "The paper says plainly which gap in {0} it closes and why that matters."),
    ("Baselines", "A comparison with the strongest recent method for {0} is missing."),
    ("Ablation", "It is not shown which part of the method the gain on {0} comes from."),
    (
        "Scale",
        "All experiments on {0} are small; what ten times the data would do stays open.",
    ),
    ("Writing", "Section 3 is hard to follow: symbols are used before they are defined."),
    ("Statistics", "Results on {0} are from one seed and have no error bars."),
    ("Reproducibility", "Code and hyper-parameters are given, so the work can be repeated."),
    ("Related work", "Earlier work on {0} is cited but the differences are not discussed."),
)


@dataclass(frozen=True)
class Texts:
    """A wrapping of titles and remarks: nothing, or an HTML injection."""

    before: str = ""
    after: str = ""

    def wrap(self, text: str) -> str:
        """Wrap a text."""
        return f"{self.before}{text}{self.after}"


def store_comparison(
    database: Database,
    papers: int = 6,
    *,
    texts: Texts | None = None,
    names: tuple[str, str] = ("tuned-7", "plain-7"),
    skill: tuple[float, float] = (0.4, 0.25),
    with_judge: bool = True,
    seed: int = 1,
) -> int:
    """Store a judged comparison of `papers` papers, one more being left out; return its id."""
    chance, texts = random.Random(seed), texts or Texts()
    a, b = (_reviewer(database, name, "local") for name in names)
    human = _reviewer(database, "human", "human")
    for number in range(papers + 1):
        paper = _paper(number, texts)
        for reviewer, count, fullness in ((a, 1, 0.8), (b, 1, 0.55), (human, 2, 0.6)):
            reviews = [
                _review(f"R{i}", paper, chance, fullness, texts, number)
                for i in range(1, count + 1)
            ]
            import_reviews(database, reviewer, reviews)
    with database.write() as on:
        comparison = _head(on, a, b, human)
        for number, paper_id in enumerate(
            on.scalars(select(PaperRow.id).order_by(PaperRow.id)).all()
        ):
            on.execute(
                update(PaperRow)
                .where(PaperRow.id == paper_id)
                .values(venue="ICLR", year=2024, decision=("Accept", "Reject")[number % 2])
            )
            excluded = "trained_title" if number == papers else None
            sides = _compare(on, comparison, paper_id, (a.id, b.id, human.id), excluded)
            if excluded is None:
                _judge(on, comparison, paper_id, sides, skill, chance, with_judge)
    return comparison


def _reviewer(database: Database, name: str, kind: str) -> ReviewerVersion:
    sha256 = f"sha of {name}"
    return reviewers.register(
        database, name=name, sha256=sha256, kind=kind, queue="reviews.tiny", config={}
    )


def _paper(number: int, texts: Texts) -> PaperContent:
    title = texts.wrap(f"On {_SUBJECTS[number % len(_SUBJECTS)]}, part {number + 1}")
    sha256 = hashlib.sha256(f"{title}{number}".encode()).hexdigest()
    return PaperContent(sha256, title, "An abstract.", f"Body {number}", [])


def _review(
    external_id: str,
    paper: PaperContent,
    chance: random.Random,
    fullness: float,
    texts: Texts,
    number: int,
) -> FrozenReview:
    items, empty = [], []
    for aspect in SEVEN.keys:
        made = sum(chance.random() < fullness for _ in range(2))
        for position, (title, text) in enumerate(chance.sample(_REMARKS, made)):
            said = text.format(_SUBJECTS[number % len(_SUBJECTS)])
            items.append(NewItem(aspect, position, texts.wrap(title), texts.wrap(said)))
        if not made:
            empty.append(aspect)
    raw = "\n".join(f"<{item.title}> {item.text}" for item in items)
    return FrozenReview(external_id, paper, raw, items, empty, rating=6)


def _head(on: Connection, a: ReviewerVersion, b: ReviewerVersion, human: ReviewerVersion) -> int:
    config = {
        "extractor": "items",
        "matcher": {"name": "embedding", "threshold": 0.55},
        "min_papers": 5,
        "split": "dev",
    }
    values = {"a_id": a.id, "b_id": b.id, "reference_id": human.id}
    made = on.scalar(
        insert(ComparisonRow)
        .values(**values, config=config, config_sha256="c" * 64)
        .returning(ComparisonRow.id)
    )
    assert made is not None
    on.execute(insert(SplitUse).values(split="dev", comparison_id=made))
    return made


@dataclass(frozen=True)
class _Sides:
    """The points of each review, by review id: [(point id, aspect)]."""

    a: int
    b: int
    references: tuple[int, ...]
    points: dict[int, list[tuple[int, str]]]


def _compare(
    on: Connection,
    comparison: int,
    paper_id: int,
    reviewer_ids: Sequence[int],
    excluded: str | None,
) -> _Sides:
    found = [
        on.scalars(
            select(ReviewRow.id)
            .where(ReviewRow.paper_id == paper_id, ReviewRow.reviewer_id == reviewer_id)
            .order_by(ReviewRow.id)
        ).all()
        for reviewer_id in reviewer_ids
    ]
    values: dict[str, Any] = {"a_review_id": found[0][0], "b_review_id": found[1][0]}
    values["matched_at"] = None if excluded else now()
    on.execute(
        insert(ComparedPaper).values(
            comparison_id=comparison,
            paper_id=paper_id,
            reference_review_ids=list(found[2]),
            excluded=excluded,
            **values,
        )
    )
    points = {i: _store_points(on, i) for ids in found for i in ids}
    return _Sides(found[0][0], found[1][0], tuple(found[2]), points)


def _store_points(on: Connection, review_id: int) -> list[tuple[int, str]]:
    known = select(PointRow.id, PointRow.aspect).where(PointRow.review_id == review_id)
    stored = [(row.id, row.aspect or "") for row in on.execute(known.order_by(PointRow.position))]
    if stored:
        return stored
    for position, item in enumerate(reviews_of(on, [review_id])[review_id].items):
        text = f"{item.title}: {item.text}"
        values = {"review_id": review_id, "extractor": "items", "position": position}
        new = (
            insert(PointRow).values(**values, aspect=item.aspect, text=text).returning(PointRow.id)
        )
        point_id = on.scalar(new)
        assert point_id is not None
        stored.append((point_id, item.aspect))
    return stored


def _judge(
    on: Connection,
    comparison: int,
    paper_id: int,
    sides: _Sides,
    skill: tuple[float, float],
    chance: random.Random,
    with_judge: bool,
) -> None:
    reference = [point for i in sides.references for point, _ in sides.points[i]]
    hits = {}
    for side, review_id, likely in (("a", sides.a, skill[0]), ("b", sides.b, skill[1])):
        generated = [point for point, _ in sides.points[review_id]]
        pairs = [(g, chance.choice(reference)) for g in generated if chance.random() < likely]
        _store_matches(on, comparison, pairs, chance)
        noise = [pair for pair in pairs if chance.random() < 0.2]
        for cut in ("full", "equal"):
            for role, made in ((side, pairs), (f"null_{side}", noise)):
                _store_counts(on, comparison, paper_id, role, cut, review_id, made, sides)
        hits[side] = {g for g, _ in pairs}
    first, second = sides.references
    for cut in ("full", "equal"):
        alike = [
            (g, h)
            for (g, _), (h, _) in zip(sides.points[first], sides.points[second], strict=False)
            if chance.random() < 0.9
        ]
        single = _Sides(sides.a, sides.b, (second,), sides.points)
        _store_counts(on, comparison, paper_id, "ceiling", cut, first, alike, single)
    _store_verdicts(on, comparison, paper_id, sides, hits, chance, with_judge)


def _store_matches(
    on: Connection, comparison: int, pairs: Sequence[tuple[int, int]], chance: random.Random
) -> None:
    for generated, reference in pairs:
        on.execute(
            insert(PointMatch).values(
                comparison_id=comparison,
                reference_point_id=reference,
                generated_point_id=generated,
                matcher="embedding",
                similarity=round(chance.uniform(5.5, 9.5), 2),
                matched=True,
            )
        )


def _store_counts(
    on: Connection,
    comparison: int,
    paper_id: int,
    role: str,
    cut: str,
    review_id: int,
    pairs: Sequence[tuple[int, int]],
    sides: _Sides,
) -> None:
    generated = [point for point, _ in sides.points[review_id]]
    union = [point for i in sides.references for point, _ in sides.points[i]]
    by_reference: list[tuple[int | None, list[int]]] = [
        (i, [point for point, _ in sides.points[i]]) for i in sides.references
    ]
    for reference_id, reference in (*by_reference, (None, union)):
        mine = [(g, h) for g, h in pairs if h in reference]
        counts = {
            "n_reference": len(reference),
            "n_generated": len(generated),
            "hits_reference": len({h for _, h in mine}),
            "hits_generated": len({g for g, _ in mine}),
            "n_pairs": _one_to_one(mine, generated, reference),
        }
        on.execute(
            insert(MatchCount).values(
                comparison_id=comparison,
                paper_id=paper_id,
                role=role,
                cut=cut,
                generated_review_id=review_id,
                reference_review_id=reference_id,
                **counts,
            )
        )


def _one_to_one(
    pairs: Sequence[tuple[int, int]], generated: Sequence[int], reference: Sequence[int]
) -> int:
    grid = np.zeros((len(generated), len(reference)))
    for g, h in pairs:
        grid[list(generated).index(g), list(reference).index(h)] = 1
    return int((maximum_bipartite_matching(csr_array(grid)) >= 0).sum()) if grid.size else 0


def _store_verdicts(
    on: Connection,
    comparison: int,
    paper_id: int,
    sides: _Sides,
    hits: dict[str, set[int]],
    chance: random.Random,
    with_judge: bool,
) -> None:
    least = min(len(sides.points[sides.a]), len(sides.points[sides.b]))
    for aspect in (None, *SEVEN.keys):
        of = {
            side: [p for p, its in sides.points[i] if aspect in (None, its)]
            for side, i in (("a", sides.a), ("b", sides.b))
        }
        for method, cut in (("match", 99), ("match_equal", least)):
            scores = {side: len(hits[side] & set(of[side][:cut])) for side in of}
            on.execute(
                insert(Verdict).values(
                    comparison_id=comparison,
                    paper_id=paper_id,
                    method=method,
                    aspect=aspect,
                    shown_first="neither",
                    outcome=_outcome(scores["a"] - scores["b"]),
                    a_score=scores["a"],
                    b_score=scores["b"],
                    a_items=min(cut, len(of["a"])),
                    b_items=min(cut, len(of["b"])),
                )
            )
        if with_judge:
            for shown_first in ("a", "b"):
                outcome = chance.choice(("win", "win", "tie", "lose"))
                values = {"comparison_id": comparison, "paper_id": paper_id, "method": JUDGE}
                values |= {"aspect": aspect, "shown_first": shown_first, "outcome": outcome}
                on.execute(insert(Verdict).values(**values))


def _outcome(ahead: int) -> str:
    return "win" if ahead > 0 else "lose" if ahead < 0 else "tie"
