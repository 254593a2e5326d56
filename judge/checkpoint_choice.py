"""Which checkpoint of a training run hits most of people's points.

Each checkpoint's adapter gets a reviewer of its own, which reviews the validation papers through
the queue. All are held against the one of the least validation loss, by hits at equal item counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from db import adapters
from db.adapters import Adapter
from db.comparisons import Side
from db.reviewers import ReviewerVersion
from db.session import Database
from dispatch import adapter_registry, roster
from errors import UserError
from judge.comparing import ComparisonPlan, PaperSelection, ParsedPoints, prepare
from judge.evaluation import Steps, run_comparison
from judge.matchers import EmbeddingMatcher
from judge.missing_reviews import ensure_reviews
from judge.report.comparison_records import read_comparison
from judge.report.figures import MethodFigures, figures
from judge.selecting import papers_reviewed_by, select_papers, version_named
from models.text.reviewer import ReviewerConfig
from settings import Settings


@dataclass(frozen=True)
class Checkpoint:
    """An adapter of the run, by the step after which it was saved, and the reviewer that has it."""

    step: int
    validation_loss: float
    adapter_sha256: str
    version: ReviewerVersion


@dataclass(frozen=True)
class CheckpointComparison:
    """A checkpoint against the one of the least validation loss.

    `figures` is None when no paper was matched; `problems` has a sentence for each left undone.
    """

    checkpoint: Checkpoint
    comparison: int
    figures: MethodFigures | None
    problems: tuple[str, ...]

    @property
    def score(self) -> float:
        """From 0 to 1; a half when nothing is known."""
        value = self.figures.total.score.value if self.figures else math.nan
        return value if math.isfinite(value) else 0.5


@dataclass(frozen=True)
class CheckpointChoice:
    """The run's checkpoints in the order of their losses, the least first."""

    incumbent: Checkpoint
    rivals: tuple[CheckpointComparison, ...]

    @property
    def best(self) -> Checkpoint:
        """The one with the highest score; of equals the one with the lower loss."""
        ahead = max(self.rivals, key=lambda rival: rival.score)
        return ahead.checkpoint if ahead.score > 0.5 else self.incumbent

    @property
    def problems(self) -> list[str]:
        """A sentence for each paper left undone."""
        return [sentence for rival in self.rivals for sentence in rival.problems]


def choose(
    database: Database, settings: Settings, options: Mapping[str, Any], steps: Steps
) -> CheckpointChoice:
    """Write what is missing and compare.

    UserError when the run has fewer than two adapters, or too few papers have been reviewed.
    """
    reference = version_named(database, options["reference"])
    selection = select_papers(None, options["dataset"], "validation")
    papers = papers_reviewed_by(database, reference, selection)[: options["max_papers"]]
    found = _checkpoints(database, options["run"], options["reviewer"])
    for each in found:
        _review(database, settings, each, [paper_id for paper_id, _ in papers], steps)
    incumbent, *others = sorted(found, key=lambda each: (each.validation_loss, each.step))
    plan = ComparisonPlan(
        a=Side(incumbent.version),
        b=Side(incumbent.version),
        reference=reference,
        matcher=EmbeddingMatcher(settings.home),
        extractor=ParsedPoints(),
        selection=PaperSelection(frozenset(sha256 for _, sha256 in papers), selection.split),
        min_papers=options["min_papers"],
        validation=True,
    )
    rivals = [_compare(database, settings, plan, other, steps) for other in others]
    return CheckpointChoice(incumbent, tuple(rivals))


def _review(
    database: Database,
    settings: Settings,
    checkpoint: Checkpoint,
    paper_ids: Sequence[int],
    steps: Steps,
) -> None:
    version = checkpoint.version
    with steps(f"reviewing with step {checkpoint.step}") as advance:
        ensure_reviews(
            database,
            settings,
            version,
            paper_ids,
            batch_name=f"checkpoints-{version.name}-v{version.version}",
            progress=advance,
        )


def _compare(
    database: Database,
    settings: Settings,
    plan: ComparisonPlan,
    checkpoint: Checkpoint,
    steps: Steps,
) -> CheckpointComparison:
    """The checkpoint against side b of the plan."""
    plan = replace(plan, a=Side(checkpoint.version))
    ready = prepare(database, plan)
    problems = run_comparison(database, settings, plan, ready, None, steps)
    told = figures(read_comparison(database, ready.comparison.id))
    return CheckpointComparison(checkpoint, ready.comparison.id, told.headline, tuple(problems))


def _checkpoints(database: Database, run: str, name: str) -> list[Checkpoint]:
    """The run's adapters, each with a version of a reviewer called NAME~RUN-STEP."""
    _, config = roster.resolve(database, name)
    found = [
        each
        for each in adapters.listing(database)
        if each.config.get("run") == run
        and each.state != "retired"
        and "step" in (each.metrics or {})
    ]
    if len(found) < 2:
        raise UserError(
            f"Run {run!r} has {len(found)} adapters in the database, and a choice needs two: "
            "`referee train CONFIG --resume --every-checkpoint` registers those of its checkpoints."
        )
    return [_entered(database, each, config, run) for each in found]


def _entered(database: Database, adapter: Adapter, config: ReviewerConfig, run: str) -> Checkpoint:
    adapter_registry.check_fits(adapter, config)
    metrics = adapter.metrics or {}
    step, loss = int(metrics["step"]), metrics.get("validation_loss")
    own = replace(config, name=f"{config.name}~{run}-{step}", adapter_sha256=adapter.sha256)
    version = roster.register_version(database, own)
    return Checkpoint(step, math.inf if loss is None else float(loss), adapter.sha256, version)
