"""`referee eval`: comparison of a new reviewer with its rivals.

Missing reviews are generated through the queue, then everything is matched and judged; a repeated
run continues where the last one stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from db.comparison_records import read_comparison
from db.comparisons import Side
from db.reviewers import ReviewerVersion
from db.session import Database
from dispatch.progress import Steps
from judge.comparing import (
    ComparisonPlan,
    PaperSelection,
    PreparedComparison,
    match,
    prepare,
)
from judge.judging import JudgeOptions
from judge.matchers import Matcher
from judge.missing_reviews import ensure_reviews
from judge.point_extraction import Extractor
from judge.question_queue import judge_all
from judge.report.figures import ComparisonFigures, MethodFigures, figures
from judge.selecting import papers_reviewed_by
from judge.win_rates import Decision, Direction, decide, papers_needed
from settings import Settings


@dataclass(frozen=True)
class EvaluationRequest:
    """The reviewers to compare, and how. `gate` is a score in percent for the lower bounds."""

    new: Side
    rivals: Sequence[Side]
    reference: ReviewerVersion
    selection: PaperSelection
    matcher: Matcher
    extractor: Extractor
    min_papers: int
    learnt_by: tuple[str, ...] = ()
    gate: float = 50.0
    judge: JudgeOptions | None = None
    allow_external: bool = False
    max_usd: float | None = None


@dataclass(frozen=True)
class EvaluationResult:
    """The comparison with one rival. `papers_needed` would decide it, None when it is decided.

    Where no paper could be matched, `method` is None, `n` 0 and the figures are NaN. `p_holm` is
    the deciding method's mid-p, adjusted over the rivals; `direction` follows from it. `passed`:
    the lower bound is above the gate and, for a gate of 50 % or more, the new reviewer is better.
    """

    rival: str
    method: str | None
    direction: Direction
    score: float
    low: float
    high: float
    n: int
    passed: bool
    p_holm: float
    papers_needed: int | None
    figures: ComparisonFigures


def evaluate(
    database: Database, settings: Settings, request: EvaluationRequest, steps: Steps
) -> tuple[list[EvaluationResult], list[str]]:
    """Compare the new reviewer with each rival; results, and a sentence for each problem."""
    for side in (request.new, *request.rivals):
        _review(database, settings, request, side, steps)
    problems: list[str] = []
    found = []
    for rival in request.rivals:
        plan = comparison_plan(request, rival)
        ready = prepare(database, plan)
        problems += run_comparison(database, settings, plan, ready, request.judge, steps)
        found.append(figures(read_comparison(database, ready.comparison.id)))
    methods = [deciding(each, request.judge) for each in found]
    decided = iter(decide([method.total for method in methods if method]))
    findings = [
        _finding(request, each, method, next(decided)) if method else _nothing(each)
        for each, method in zip(found, methods, strict=True)
    ]
    return findings, problems


def _review(
    database: Database, settings: Settings, request: EvaluationRequest, side: Side, steps: Steps
) -> None:
    if side.batch is not None:
        return
    papers = papers_reviewed_by(database, request.reference, request.selection)
    scope = (request.selection.sha256 or "all")[:8]
    name = f"eval-{side.reviewer.name}-v{side.reviewer.version}-{request.reference.name}-{scope}"
    with steps(f"reviewing by {side.reviewer.name}") as advance:
        ensure_reviews(
            database,
            settings,
            side.reviewer,
            [paper_id for paper_id, _ in papers],
            batch_name=name,
            progress=advance,
            allow_external=request.allow_external,
            max_usd=request.max_usd,
        )


def comparison_plan(request: EvaluationRequest, rival: Side) -> ComparisonPlan:
    """The comparison of the new reviewer with one rival."""
    return ComparisonPlan(
        a=request.new,
        b=rival,
        reference=request.reference,
        matcher=request.matcher,
        extractor=request.extractor,
        selection=request.selection,
        levels=request.matcher.assign is not None,
        min_papers=request.min_papers,
        learnt_by=request.learnt_by,
    )


def run_comparison(
    database: Database,
    settings: Settings,
    plan: ComparisonPlan,
    ready: PreparedComparison,
    judge: JudgeOptions | None,
    steps: Steps,
) -> list[str]:
    """Match, and judge when a judge is given; return a sentence for each unfinished paper."""
    with steps("matching") as advance:
        problems = list(match(database, ready, plan, advance).problems)
    if judge is not None:
        with steps("judging") as advance:
            problems += judge_all(database, settings, ready.comparison, judge, advance)
    return problems


def _nothing(found: ComparisonFigures) -> EvaluationResult:
    return EvaluationResult(
        rival=found.record.b.label,
        method=None,
        direction="undecided",
        score=math.nan,
        low=math.nan,
        high=math.nan,
        n=0,
        passed=False,
        p_holm=math.nan,
        papers_needed=None,
        figures=found,
    )


def _finding(
    request: EvaluationRequest, found: ComparisonFigures, method: MethodFigures, decision: Decision
) -> EvaluationResult:
    score = method.total.score
    gate = request.gate / 100.0
    passed = score.low > gate and (gate < 0.5 or decision.direction == "better")
    missed = score.high < gate
    return EvaluationResult(
        rival=found.record.b.label,
        method=method.method,
        direction=decision.direction,
        score=score.value,
        low=score.low,
        high=score.high,
        n=method.total.n,
        passed=passed,
        p_holm=decision.p_holm,
        papers_needed=(
            None if passed or missed else papers_needed(method.total, gate, decision.rows)
        ),
        figures=found,
    )


def deciding(found: ComparisonFigures, judge: JudgeOptions | None) -> MethodFigures | None:
    """The method that decides: the judge's if there is one, else hits at equal item counts.

    None where nothing could be matched.
    """
    wanted = judge.method if judge is not None else None
    for method in found.methods:
        if method.method == wanted:
            return method
    return found.headline
