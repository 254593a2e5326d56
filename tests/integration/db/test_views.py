"""The views, and the queries that docs/sql.md shows for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from db import completion, readonly
from db.completion import NewItem
from db.imports import FrozenReview, import_reviews
from db.schema_judging import ComparisonRow, Verdict
from db.session import Database
from tests.integration.db.content import (
    a_review,
    a_reviewer,
    claim_one,
    content,
    paper,
    submit,
    unreadable,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "sql.md"
QUERIES = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)


def query_on(subject: str) -> str:
    """The document's query that mentions the subject."""
    (query,) = [query for query in QUERIES if subject in query]
    return query


@pytest.fixture
def url(database: Database, database_url: str) -> str:
    """A database with reviewed, duplicate, failed, waiting and imported papers."""
    submit(
        database,
        "demo",
        *(paper("p1"), paper("p2", "p1"), paper("p3"), unreadable("bad"), paper("p4")),
    )
    completion.commit_review(database, claim_one(database), a_review(truncated_tokens=5))
    fine = (NewItem("rejection", 0, "Typos", "Few."), NewItem("rejection", 1, "Length", "Long."))
    completion.commit_review(database, claim_one(database), a_review(items=fine))
    human = a_reviewer(database, "human")
    frozen = FrozenReview("h1", content("p1"), "raw", empty_aspects=("rejection",))
    import_reviews(database, human, [frozen])
    return database_url


def rows(url: str, query: str) -> list[dict[str, Any]]:
    found = readonly.select(url, query)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_document_runs(url: str, query: str) -> None:
    assert readonly.select(url, query).columns


def test_every_view_has_a_query_in_the_document() -> None:
    for view in ("review_flat", "batch_progress", "aspect_statistics", "pk_summary", "flag_list"):
        assert query_on(f"FROM {view}")


def test_papers_whose_rejection_mentions_a_baseline(url: str) -> None:
    found = rows(url, query_on("FROM review_flat"))
    # Both ids of the paper, and not the one whose rejection says something else.
    assert [(row["custom_id"], row["title"]) for row in found] == [("p1", "On p1"), ("p2", "On p1")]


def test_review_flat_has_a_row_an_item(url: str) -> None:
    found = rows(url, "SELECT * FROM review_flat WHERE custom_id = 'p1' ORDER BY aspect")
    assert [(row["aspect"], row["position"], row["item_title"]) for row in found] == [
        ("idea", 0, "Clear"),
        ("rejection", 0, "Weak"),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found[0]["reviewed_at"])
    assert found[0]["truncated_tokens"] == 5


def test_batch_progress_counts_every_state(url: str) -> None:
    (row,) = rows(url, "SELECT * FROM batch_progress")
    counts = {name: row[name] for name in ("total", "queued", "succeeded", "failed", "running")}
    assert counts == {"total": 5, "queued": 1, "succeeded": 3, "failed": 1, "running": 0}
    assert (row["state"], row["truncated_papers"], row["prompt_tokens"]) == ("in_progress", 1, 200)
    assert rows(url, query_on("FROM batch_progress")) == [
        {"batch": "demo", "state": "in_progress", "left_over": 1, "failed": 1}
    ]


def test_aspect_statistics_count_empty_aspects(url: str) -> None:
    found = rows(url, "SELECT * FROM aspect_statistics WHERE aspect = 'rejection'")
    by_reviewer = {row["reviewer"]: row for row in found}
    tiny, human = by_reviewer["tiny-7"], by_reviewer["human"]
    assert (tiny["reviews"], tiny["items"]) == (2, 3)
    assert float(tiny["items_a_review"]) == 1.5
    assert float(tiny["items_variance"]) == pytest.approx(0.25)
    assert float(tiny["empty_share"]) == 0.0
    assert (human["reviews"], human["items"], float(human["empty_share"])) == (1, 0, 1.0)


def test_pk_summary_counts_a_paper_once_for_both_orders(database: Database, url: str) -> None:
    with database.write() as on:
        comparison = on.scalar(
            insert(ComparisonRow)
            .values(a_id=1, b_id=2, reference_id=2, config={}, config_sha256="s")
            .returning(ComparisonRow.id)
        )
        # Paper 1: both orders agree. 2: they contradict each other. 3: one is unreadable.
        # Of an aspect of paper 1 only one order was asked about: it is not judged yet.
        for paper_id, first, outcome in (
            (1, "a", "win"),
            (1, "b", "win"),
            (2, "a", "win"),
            (2, "b", "lose"),
            (3, "a", "win"),
            (3, "b", "invalid"),
        ):
            on.execute(
                insert(Verdict).values(
                    comparison_id=comparison,
                    paper_id=paper_id,
                    method="judge:small:1",
                    shown_first=first,
                    outcome=outcome,
                )
            )
        on.execute(
            insert(Verdict).values(
                comparison_id=comparison,
                paper_id=1,
                method="judge:small:1",
                aspect="idea",
                shown_first="a",
                outcome="win",
            )
        )
    (row,) = rows(url, query_on("FROM pk_summary"))
    assert (row["papers"], row["win"], row["tie"], row["lose"]) == (2, 1, 1, 0)
    assert (row["a"], row["b"]) == ("tiny-7", "human")


def test_a_jobs_history_can_be_asked(url: str) -> None:
    kinds = [row["kind"] for row in rows(url, query_on("FROM job_event"))]
    assert kinds == ["queued", "claimed", "succeeded"]
