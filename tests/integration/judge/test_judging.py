"""Judge-PK over a stored comparison, asked of a real HTTP server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from db import batch_progress, reconcile, reviewers
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
from db.schema import JUDGE_QUEUE, ItemRow, JobEvent, ReviewRow
from db.schema_judging import Verdict
from db.session import Database
from dispatch import roster
from dispatch.app import REVIEW_TASK, make_app
from dispatch.kinds import Accepted
from errors import UserError
from judge import question_queue
from judge.comparing import extract_points
from judge.handler import JudgeHandler, JudgeTask
from judge.judges import register_judge
from judge.judging import Judge, JudgeOptions, JudgeQuestion, pending
from judge.point_extraction import ParsedPoints
from judge.report.figures import figures
from models.text.generation import Generation
from settings import Settings
from tests.chat_server import ChatServer, fuller_review_wins, serve_chat
from tests.integration.db.content import claim_one
from tests.integration.judge.rivals import ECHOES, NOISE, POINTS, reviewer, write
from worker.api_engines import ApiEngines
from worker.in_flight import InFlight
from worker.job_runner import JobRunner
from worker.metrics import Metrics
from worker.self_check import SelfCheck


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
    judge.answer(JudgeQuestion(comparison.id, 1, "a", 0))
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


def queue_questions(database: Database, comparison: Comparison, options: JudgeOptions) -> str:
    """Queue every question as the command does, without waiting; give the batch's name."""
    version = register_judge(database, options.config)
    questions = pending(database, comparison, options, repeat=False)
    nowhere = Settings(home=Path("/nonexistent"), broker_url="")
    name = question_queue.queue_questions(
        database, nowhere, comparison, version, options, questions
    )
    assert batch_progress.n_live(database, name) == len(questions)
    return name


def judging(database: Database, home: Path) -> JobRunner:
    """A cpu worker's runner."""
    settings = Settings(home=home)
    return JobRunner(
        database=database,
        engines=ApiEngines(settings),
        in_flight=InFlight(),
        worker="w1",
        queues=[JUDGE_QUEUE],
        settings=settings,
        metrics=Metrics(settings, "cpu"),
        self_check=SelfCheck(),
        ring=lambda: False,
    )


def n_whole_verdicts(database: Database) -> int:
    with database.read() as on:
        return on.scalar(select(func.count()).where(Verdict.aspect.is_(None))) or 0


def test_workers_answer_queued_questions_once(
    database: Database, comparison: Comparison, server: ChatServer, tmp_path: Path
) -> None:
    options = options_of(server)
    name = queue_questions(database, comparison, options)
    # Given a question that was answered from elsewhere meanwhile
    judge = Judge(database, Settings(), options)
    judge.answer(pending(database, comparison, options, repeat=False)[0])
    judge.close()
    assert judging(database, tmp_path).run_waiting_jobs()
    # Then it is not asked again, and every job has its verdict
    assert batch_progress.status(database, name).counts["succeeded"] == 8
    assert (len(server.bodies), n_whole_verdicts(database)) == (8, 8)
    (method,) = figures(read_comparison(database, comparison.id)).methods
    assert (method.total.win, method.total.tie, method.total.lose) == (3, 1, 0)


def test_an_answer_that_cannot_be_read_is_asked_for_again_and_then_invalid(
    database: Database, comparison: Comparison, server: ChatServer, tmp_path: Path
) -> None:
    server.answer = lambda _: "A is better, I think."
    queue_questions(database, comparison, options_of(server))
    assert judging(database, tmp_path)._run_next_job()
    with database.read() as on:
        ((outcome, rationale),) = on.execute(select(Verdict.outcome, Verdict.rationale))
    assert (outcome, rationale) == (
        "invalid",
        "3 answers could not be read: the answer is not JSON",
    )
    assert [body["seed"] for body in server.bodies] == [0, 1, 2]
    # And what was answered is not kept in the job's history
    with database.read() as on:
        details = on.scalars(select(JobEvent.detail).where(JobEvent.kind == "rejected")).all()
    assert details == [{"failed": "unreadable"}] * 3


def test_a_worker_that_lost_a_question_stores_no_verdict(
    database: Database, comparison: Comparison, server: ChatServer
) -> None:
    queue_questions(database, comparison, options_of(server))
    handler = JudgeHandler(database)
    lost = claim_one(database, queues=[JUDGE_QUEUE], lease_seconds=-1.0)
    reconcile.reconcile(database, max_attempts=3)
    fresh = claim_one(database, queues=[JUDGE_QUEUE])
    assert (fresh.job_id, fresh.attempt) == (lost.job_id, lost.attempt + 1)
    stored = []
    for claim in (lost, fresh):
        task = handler.open(claim)
        assert isinstance(task, JudgeTask)
        answer = json.dumps({"verdict": "A", "aspects": dict.fromkeys(task.pair.aspects, "B")})
        outcome = task.read(task.request(0), Generation(answer, (), "stop", 1, 1, 0, 0.0, 0.1), {})
        assert isinstance(outcome, Accepted)
        stored.append((outcome.commit(), n_whole_verdicts(database)))
    assert stored == [(False, 0), (True, 1)]


def test_a_question_about_purged_reviews_fails_with_a_sentence(
    database: Database, comparison: Comparison, server: ChatServer, tmp_path: Path
) -> None:
    name = queue_questions(database, comparison, options_of(server))
    with database.write() as on:
        on.execute(update(ReviewRow).values(raw="", unplaced=""))
        on.execute(update(ItemRow).values(title="", text=""))
    assert judging(database, tmp_path)._run_next_job()
    (failed,) = batch_progress.failures(database, name)
    assert failed.error == "A review has no text any more, it was purged."
    assert server.bodies == []


def test_message_content_does_not_affect_requests(
    database: Database, comparison: Comparison, server: ChatServer, tmp_path: Path
) -> None:
    # Given questions whose judge is outside this site, without leave to send anything there
    outside = JudgeOptions("https://api.example.com/v1", "some-judge")
    name = queue_questions(database, comparison, outside)
    # When a worker is rung with a message that names an endpoint, a permission and a question
    app = make_app("memory://", Settings(home=tmp_path))
    runner = judging(database, tmp_path)

    @app.task(name=REVIEW_TASK)
    def review(batch: str | None = None) -> None:
        runner.run_waiting_jobs()

    forged = {"url": server.url, "allow_external": True, "ask": {"paper_id": 1}}
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        review.apply(kwargs={"batch": name, **forged}, throw=True)
    assert batch_progress.n_live(database, name) == 8
    review.apply(kwargs={"batch": server.url}, throw=True)
    # Then the stored judge alone says where it goes, and the stored batch whether it may
    failed = batch_progress.failures(database, name)
    assert all("sent to api.example.com, outside this site" in job.error for job in failed)
    assert batch_progress.status(database, name).errors == {"external_endpoint": 8}
    assert server.bodies == []


def test_judge_cannot_be_used_as_a_reviewer(database: Database) -> None:
    register_judge(database, JudgeOptions("http://localhost/v1", "m").config)
    assert reviewers.listing(database) == []
    with pytest.raises(UserError, match="There is no reviewer"):
        roster.resolve(database, "judge:m")
