"""Judge-PK over a stored comparison, asked of a real HTTP server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from db.comparison_records import read_comparison
from db.comparisons import (
    Comparison,
    ComparisonPaper,
    Side,
    add_papers,
    candidates,
    open_comparison,
)
from db.matches import MatchedPaper, store_matched
from db.schema_judging import Verdict
from db.session import Database
from errors import UserError
from judge.comparing import extract_points
from judge.judging import Judge, JudgeOptions, JudgeQuestion, pending, question_from_json
from judge.point_extraction import ParsedPoints
from judge.report.figures import figures
from settings import Settings
from tests.chat_server import ChatServer, fuller_review_wins, serve_chat
from tests.integration.judge.rivals import ECHOES, NOISE, POINTS, reviewer, write


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serve_chat(fuller_review_wins) as running:
        yield running


@pytest.fixture
def comparison(database: Database) -> Comparison:
    """Four papers; the first rival writes more, but for one paper where both write the same."""
    a, b, people = (reviewer(database, name) for name in ("long", "short", "people"))
    for i in range(4):
        write(database, people, f"p{i}", *POINTS)
        write(database, a, f"p{i}", *ECHOES)
        write(database, b, f"p{i}", *(ECHOES if i == 0 else NOISE[:1]))
    found: list[ComparisonPaper] = candidates(database, Side(a), Side(b), people)
    made = open_comparison(database, a, b, people, {"extractor": "parsed"})
    add_papers(database, made, found)
    reviews = {r for p in found for r in (p.a_review, p.b_review, *p.reference_reviews)}
    extract_points(database, ParsedPoints(), reviews)
    store_matched(database, made.id, [MatchedPaper(p.paper_id, (), (), ()) for p in found])
    return made


def options_of(server: ChatServer, **changes: Any) -> JudgeOptions:
    return replace(JudgeOptions(server.url, "some-judge", requests_per_minute=60_000), **changes)


def ask_all(database: Database, comparison: Comparison, options: JudgeOptions) -> int:
    questions = pending(database, comparison, options, repeat=False)
    judge = Judge(database, Settings(), options)
    try:
        assert judge.answer_all(questions, lambda done, total: None) == []
    finally:
        judge.close()
    return len(questions)


def test_every_paper_is_judged_in_both_orders_once(
    database: Database, comparison: Comparison, server: ChatServer
) -> None:
    options = options_of(server)
    # When a judge is asked about a comparison, twice
    assert ask_all(database, comparison, options) == 8
    assert ask_all(database, comparison, options) == 0
    # Then it was asked once for each paper and order, and what it said is stored by aspect
    assert len(server.bodies) == 8
    (method,) = figures(read_comparison(database, comparison.id)).methods
    assert method.method == options.method
    assert (method.total.win, method.total.tie, method.total.lose) == (3, 1, 0)
    assert set(method.aspects) == {*("idea", "novelty", "experiments", "acceptance")} | {
        *("rejection", "suggestions", "other")
    }
    assert method.position is not None
    assert method.position.consistent.value == 1.0
    # And people's reviews were shown with both rivals'
    assert "Human review 1" in server.bodies[0]["messages"][1]["content"]


def test_a_judge_killed_half_way_repeats_no_verdict(
    database: Database, comparison: Comparison, server: ChatServer
) -> None:
    options = options_of(server)
    # Given a run that was killed after three questions
    judge = Judge(database, Settings(), options)
    for ask in pending(database, comparison, options, repeat=False)[:3]:
        judge.answer(ask)
    judge.close()
    # Then the next one asks the five that are left
    assert ask_all(database, comparison, options) == 5
    # And an answer that comes a second time changes nothing
    judge = Judge(database, Settings(), options)
    judge.answer(JudgeQuestion(comparison.id, 1, "a", 0, options))
    judge.close()
    with database.read() as on:
        whole = on.execute(select(Verdict.id).where(Verdict.aspect.is_(None))).all()
    assert len(whole) == 8


def test_at_equal_length_no_headings_are_shown(
    database: Database, comparison: Comparison, server: ChatServer
) -> None:
    options = options_of(server, equal=True)
    ask_all(database, comparison, options)
    (method,) = figures(read_comparison(database, comparison.id)).methods
    assert method.method.startswith("judge_equal:some-judge:")
    assert method.a_items == method.b_items
    shown = server.bodies[-1]["messages"][1]["content"].split("\n\nReview A\n")[1]
    assert "[Potential" not in shown


def test_reviews_go_nowhere_unasked(database: Database, comparison: Comparison) -> None:
    outside = JudgeOptions("https://api.example.com/v1", "some-judge")
    with pytest.raises(UserError, match="outside this site"):
        Judge(database, Settings(), outside)


def test_a_question_survives_its_way_through_the_queue() -> None:
    ask = JudgeQuestion(1, 2, "b", 1, JudgeOptions("http://localhost/v1", "m", equal=True))
    assert question_from_json(ask.to_json()) == ask
    with pytest.raises(ValueError, match="a question has"):
        question_from_json({"comparison_id": 1})
