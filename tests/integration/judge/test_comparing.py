"""Comparisons matched by the real embedding model, in both databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from commands.judge_tables import evaluation_line, evaluation_rows
from db.comparison_records import read_comparison
from db.comparisons import Side
from db.imports import FrozenReview, import_reviews
from db.matches import MatchedPaper, store_matched
from db.reviewers import ReviewerVersion
from db.schema_judging import MatchCount, PointMatch, Verdict
from db.schema_training import AdapterPaper, AdapterRow
from db.session import Database
from errors import RetryLater, UserError
from judge import comparing
from judge.comparing import ComparisonPlan, PaperSelection, match, prepare
from judge.evaluation import EvaluationRequest, evaluate
from judge.judging import JudgeOptions
from judge.matchers import EmbeddingMatcher
from judge.point_extraction import ParsedPoints
from judge.report.figures import figures
from judge.selecting import adapters_named
from settings import Settings
from tests.chat_server import fuller_review_wins, serve_chat
from tests.integration.db.content import content
from tests.integration.judge.rivals import ECHOES, NOISE, POINTS, reviewer, write

#: For promises that do not depend on the database.
ONE_DATABASE = pytest.mark.parametrize("dialect", ["sqlite"])


@pytest.fixture
def rivals(database: Database) -> dict[str, ReviewerVersion]:
    """Six papers: one rival echoes the people, the other talks of something else."""
    versions = {name: reviewer(database, name) for name in ("echo", "noise", "people")}
    for i in range(6):
        write(database, versions["people"], f"p{i}", *POINTS[:3])
        write(database, versions["people"], f"p{i}", *POINTS[1:], sample=1)
        write(database, versions["echo"], f"p{i}", *ECHOES[:2])
        write(database, versions["noise"], f"p{i}", *NOISE)
    return versions


def comparison_plan(
    rivals: dict[str, ReviewerVersion], home: Path, **changes: Any
) -> ComparisonPlan:
    defaults: dict[str, Any] = {
        "a": Side(rivals["echo"]),
        "b": Side(rivals["noise"]),
        "reference": rivals["people"],
        "matcher": EmbeddingMatcher(home),
        "extractor": ParsedPoints(),
        "min_papers": 1,
    }
    return ComparisonPlan(**(defaults | changes))


def run(database: Database, plan: ComparisonPlan) -> int:
    ready = prepare(database, plan)
    assert match(database, ready, plan, lambda done, total: None).problems == ()
    return ready.comparison.id


def rows(database: Database, table: Any) -> int:
    with database.read() as on:
        return on.scalar(select(func.count()).select_from(table)) or 0


def test_reviewer_that_repeats_human_points_wins(
    database: Database, rivals: dict[str, ReviewerVersion], home: Path
) -> None:
    comparison = run(database, comparison_plan(rivals, home))
    found = figures(read_comparison(database, comparison))
    by_method = {method.method: method for method in found.methods}
    # Two points hit two reviewers' points, at any number of items
    assert (by_method["match"].total.win, by_method["match_equal"].total.win) == (6, 6)
    assert (by_method["match"].a_items, by_method["match"].b_items) == (2.0, 4.0)
    assert by_method["match"].a_hits == 3.0  # "Writing" is in both people's reviews
    assert by_method["match_equal"].b_hits == 0.0
    assert by_method["match"].aspects["rejection"].win == 6
    # And every role is counted: rivals, chance, and people against people
    roles = {(overlap.role, overlap.cut) for overlap in found.overlaps}
    assert {("a", "full"), ("b", "equal"), ("null_a", "full"), ("ceiling", "full")} <= roles


def test_matching_again_changes_nothing(
    database: Database, rivals: dict[str, ReviewerVersion], home: Path
) -> None:
    first = run(database, comparison_plan(rivals, home))
    before = [rows(database, table) for table in (PointMatch, MatchCount, Verdict)]
    assert run(database, comparison_plan(rivals, home)) == first
    assert [rows(database, table) for table in (PointMatch, MatchCount, Verdict)] == before


def test_killed_run_continues_where_it_stopped(
    database: Database, rivals: dict[str, ReviewerVersion], home: Path, monkeypatch: Any
) -> None:
    # Given a run that stores two papers at a time and dies before the third transaction
    monkeypatch.setattr(comparing, "_CHUNK", 2)
    stored: list[int] = []
    real = store_matched

    def dying(database: Database, comparison_id: int, papers: list[MatchedPaper]) -> int:
        if len(stored) == 4:
            raise KeyboardInterrupt
        stored.extend(paper.paper_id for paper in papers)
        return real(database, comparison_id, papers)

    monkeypatch.setattr(comparing, "store_matched", dying)
    plan = comparison_plan(rivals, home)
    ready = prepare(database, plan)
    with pytest.raises(KeyboardInterrupt):
        match(database, ready, plan, lambda done, total: None)
    # When it is run again
    monkeypatch.setattr(comparing, "store_matched", real)
    again = match(database, ready, plan, lambda done, total: None)
    # Then only the rest is matched
    assert again.new == 2
    assert rows(database, Verdict) == 6 * 2 * 8


@ONE_DATABASE
def test_people_whose_reviews_were_never_parsed_have_points(
    database: Database, rivals: dict[str, ReviewerVersion], home: Path
) -> None:
    # Given people's reviews as `referee data import` keeps them: a raw text and nothing else
    authors = reviewer(database, "authors", "human")
    text = " ".join(sentence for _, sentence in POINTS)
    rows = [FrozenReview(f"p{i}", content(f"p{i}"), text, ()) for i in range(6)]
    import_reviews(database, authors, rows)
    # When rivals are held against them, then their sentences are the truth
    comparison = run(database, comparison_plan(rivals, home, reference=authors))
    found = figures(read_comparison(database, comparison))
    equal, whole = found.methods
    assert (equal.total.win, whole.a_hits) == (6, 2.0)


def test_a_reviewer_ties_with_itself(
    database: Database, rivals: dict[str, ReviewerVersion], home: Path
) -> None:
    comparison = run(database, comparison_plan(rivals, home, b=Side(rivals["echo"])))
    found = figures(read_comparison(database, comparison))
    assert [method.total.tie for method in found.methods] == [6, 6]


def test_training_papers_of_a_reviewer_are_excluded_and_counted(
    database: Database, rivals: dict[str, ReviewerVersion], home: Path
) -> None:
    # Given a rival whose adapter saw p0, and a paper that nearly has p0's title
    tuned = reviewer(database, "tuned", "local", adapter_sha256="f" * 64)
    for i in range(6):
        write(database, tuned, f"p{i}", *ECHOES)
    with database.write() as on:
        adapter = on.scalar(
            insert(AdapterRow)
            .values(sha256="f" * 64, name="t", base="b", config={})
            .returning(AdapterRow.id)
        )
        sha256 = content("p0").sha256
        on.execute(insert(AdapterPaper).values(adapter_id=adapter, paper_sha256=sha256))
    # When it is compared
    plan = comparison_plan(rivals, home, a=Side(tuned), min_papers=5)
    ready = prepare(database, plan)
    # Then p0 is out, and too few papers are refused with the reason
    assert (ready.n_papers, ready.n_excluded) == (5, 1)
    with pytest.raises(UserError, match=r"5 papers in common \(1 more .* trained"):
        prepare(database, comparison_plan(rivals, home, a=Side(tuned), min_papers=6))
    # And so it is for reviews that it wrote elsewhere, once it is named
    learnt = adapters_named(database, ["ffff"])
    imported = comparison_plan(rivals, home, learnt_by=learnt, min_papers=5)
    assert prepare(database, imported).n_excluded == 1
    with pytest.raises(UserError, match=r"No adapter has a SHA-256 that begins with 'abc'"):
        adapters_named(database, ["abc"])


def test_looks_at_a_split_are_counted_once_a_comparison(
    database: Database, rivals: dict[str, ReviewerVersion], home: Path
) -> None:
    some = frozenset(content(f"p{i}").sha256 for i in range(3))
    test = comparison_plan(rivals, home, selection=PaperSelection(some, "test"))
    other = comparison_plan(
        rivals, home, selection=PaperSelection(some, "test"), b=Side(rivals["echo"])
    )
    assert [prepare(database, plan).split_uses for plan in (test, test, other)] == [1, 1, 2]
    assert prepare(database, test).n_papers == 3


def test_a_matcher_that_cannot_be_asked_leaves_its_paper_for_the_next_run(
    database: Database, rivals: dict[str, ReviewerVersion], home: Path
) -> None:
    class Flaky(EmbeddingMatcher):
        assign = None  # type: ignore[assignment]  # it fails before it assigns
        broken = True

        def pairs(self, reference: Any, generated: Any) -> Any:
            if self.broken:
                self.broken = False
                raise RetryLater("the server is away")
            return super().pairs(reference, generated)

    plan = comparison_plan(rivals, home, matcher=Flaky(home))
    ready = prepare(database, plan)
    first = match(database, ready, plan, lambda done, total: None)
    assert (first.new, len(first.problems)) == (5, 1)
    assert match(database, ready, plan, lambda done, total: None).new == 1


@contextmanager
def quietly(label: str) -> Iterator[Any]:
    yield lambda done, total: None


def request_of(
    rivals: dict[str, ReviewerVersion], home: Path, against: str, **changes: Any
) -> EvaluationRequest:
    defaults: dict[str, Any] = {
        "new": Side(rivals["echo"]),
        "rivals": [Side(rivals[against])],
        "reference": rivals["people"],
        "selection": PaperSelection(),
        "matcher": EmbeddingMatcher(home),
        "extractor": ParsedPoints(),
        "min_papers": 1,
    }
    return EvaluationRequest(**(defaults | changes))


@ONE_DATABASE
def test_an_evaluation_of_which_nothing_could_be_matched_is_undecided(
    database: Database, rivals: dict[str, ReviewerVersion], home: Path
) -> None:
    class Away(EmbeddingMatcher):
        assign = None  # type: ignore[assignment]  # as of a matcher that asks a model

        def pairs(self, reference: Any, generated: Any) -> Any:
            raise RetryLater("the server is away")

    request = request_of(rivals, home, "noise", matcher=Away(home))
    (finding,), problems = evaluate(database, Settings(home=home), request, quietly)
    assert len(problems) == 6
    assert (finding.n, finding.passed, finding.direction) == (0, False, "undecided")
    assert evaluation_line(finding, 50.0) == "undecided against noise v1: no paper could be matched"
    (row,) = evaluation_rows([finding], 50.0)
    assert (row["score"], row["p_holm"], row["methods"]) == (None, None, [])


@ONE_DATABASE
def test_comparison_undecided_after_correction_does_not_pass_the_gate(
    database: Database, rivals: dict[str, ReviewerVersion], home: Path
) -> None:
    # Given four rivals: the new one wins all papers against one, and writes the same as the others
    sides = [Side(rivals["noise"])]
    for name in ("same", "alike", "equal"):
        sides.append(Side(reviewer(database, name)))
        for i in range(6):
            write(database, sides[-1].reviewer, f"p{i}", *ECHOES[:2])
    settings = Settings(home=home)
    # When it is held against that one alone, and against all
    (alone,), _ = evaluate(database, settings, request_of(rivals, home, "noise"), quietly)
    request = replace(request_of(rivals, home, "noise"), rivals=sides)
    (among, *others), _ = evaluate(database, settings, request, quietly)
    # Then the intervals are the same, above the gate, and the number of rivals decides
    assert alone.low == among.low > 0.5
    assert (alone.direction, alone.passed, alone.papers_needed) == ("better", True, None)
    assert evaluation_line(alone, 50.0).startswith("better than noise v1: score 100.0 %")
    assert {other.direction for other in others} == {"undecided"}
    assert (among.direction, among.passed) == ("undecided", False)
    assert (among.p_holm, among.papers_needed) == (pytest.approx(4 * alone.p_holm), 7)
    assert "undecided against noise v1" in evaluation_line(among, 50.0)
    assert "p = 0.062 (Holm), n 6" in evaluation_line(among, 50.0)
    assert "does not pass the gate of 50; about 7 papers would decide" in evaluation_line(
        among, 50.0
    )
    # And a gate below a half asks for the interval alone
    (lower, *_), _ = evaluate(database, settings, replace(request, gate=40.0), quietly)
    assert (lower.direction, lower.passed) == ("undecided", True)


@ONE_DATABASE
def test_the_adjusted_p_belongs_to_the_method_that_decides(
    database: Database, rivals: dict[str, ReviewerVersion], home: Path
) -> None:
    # Given a rival that hits nothing, but writes more than the new one on half of the papers
    rivals["mixed"] = reviewer(database, "mixed")
    for i in range(6):
        write(database, rivals["mixed"], f"p{i}", *NOISE[: 1 if i < 3 else 4])
    with serve_chat(fuller_review_wins) as server:
        judge = JudgeOptions(server.url, "some-judge", requests_per_minute=60_000)
        request = request_of(rivals, home, "mixed", judge=judge)
        (finding,), problems = evaluate(database, Settings(home=home), request, quietly)
    # Then the judge decides, and its p is told, not that of the hits
    assert not problems
    by_method = {m.method: m.total for m in finding.figures.methods}
    assert (by_method["match_equal"].win, by_method[judge.method].win) == (6, 3)
    assert finding.method == judge.method
    assert finding.p_holm == by_method[judge.method].test.mid_p
    assert finding.p_holm > by_method["match_equal"].test.mid_p
