"""`referee eval` from its options to lines and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from commands.comparison_table import finite
from commands.comparison_table import rows as comparison_rows
from db.session import Database
from dispatch.progress import Steps
from judge.evaluation import EvaluationRequest, EvaluationResult, evaluate
from judge.judging import JudgeOptions
from judge.report.words import p_is
from judge.selecting import (
    adapters_named,
    make_extractor,
    make_matcher,
    select_papers,
    side_named,
    version_named,
)
from settings import Settings


def run(
    database: Database,
    settings: Settings,
    new: str,
    options: Mapping[str, Any],
    model: JudgeOptions | None,
    steps: Steps,
    *,
    allow_external: bool,
) -> tuple[list[EvaluationResult], list[str]]:
    """Evaluate as asked; findings by rival, and a sentence for each problem."""
    request = EvaluationRequest(
        new=side_named(database, new),
        rivals=[side_named(database, rival) for rival in options["rivals"]],
        reference=version_named(database, options["reference"]),
        selection=select_papers(options["papers"], options["dataset"], options["split"]),
        matcher=make_matcher(options["matcher"], options["threshold"], settings, model),
        extractor=make_extractor(options["extractor"], settings, model),
        min_papers=options["min_papers"],
        learnt_by=adapters_named(database, options["learnt_by"]),
        gate=options["gate"],
        judge=model,
        allow_external=allow_external,
        max_usd=options["max_usd"],
    )
    return evaluate(database, settings, request, steps)


def line(finding: EvaluationResult, gate: float) -> str:
    """One rival in one line."""
    if finding.method is None:
        return f"undecided against {finding.rival}: no paper could be matched"
    text = (
        f"{finding.direction} than {finding.rival}"
        if finding.direction != "undecided"
        else f"undecided against {finding.rival}"
    )
    text += (
        f": score {100 * finding.score:.1f} %, 95 % interval [{100 * finding.low:.1f}, "
        f"{100 * finding.high:.1f}], {p_is(finding.p_holm)} (Holm), n {finding.n}, "
        f"by {finding.method}, "
        f"{'passes' if finding.passed else 'does not pass'} the gate of {gate:g}"
    )
    if finding.papers_needed is not None:
        text += f"; about {finding.papers_needed} papers would decide"
    return text


def rows(found: Sequence[EvaluationResult], gate: float) -> list[dict[str, Any]]:
    """A row a rival, with every method's rows under `methods`."""
    return [
        {
            "rival": f.rival,
            "method": f.method,
            "direction": f.direction,
            "score": finite(f.score),
            "low": finite(f.low),
            "high": finite(f.high),
            "n": f.n,
            "gate": gate,
            "passed": f.passed,
            "p_holm": finite(f.p_holm),
            "papers_needed": f.papers_needed,
            "comparison": f.figures.record.id,
            "excluded": dict(f.figures.excluded),
            "split_uses": dict(f.figures.record.split_uses),
            "methods": comparison_rows(f.figures),
        }
        for f in found
    ]
