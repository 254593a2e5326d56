"""Choice of the checkpoint of a training run that hits most of the human reviewers' points.

A reviewer is registered for each checkpoint's adapter and reviews the validation papers through the
queue. Each is compared with the checkpoint of the lowest validation loss, by hits at equal item
counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from db import adapters
from db.adapters import Adapter
from db.comparison_records import read_comparison
from db.comparisons import Side
from db.reviewers import ReviewerVersion
from db.session import Database
from dispatch import adapter_registry, roster
from dispatch.progress import Steps
from errors import UserError
from judge.comparing import ComparisonPlan, PaperSelection, prepare
from judge.evaluation import run_comparison
from judge.matchers import EmbeddingMatcher
from judge.missing_reviews import ensure_reviews
from judge.point_extraction import ParsedPoints
from judge.report.figures import MethodFigures, figures
from judge.selecting import papers_reviewed_by, select_papers, version_named
from judge.statistics import MIN_PAPERS
from models.text.reviewer import ReviewerConfig
from settings import Settings


@dataclass(frozen=True)
class CheckpointRequest:
    """The run whose checkpoints are compared, the reviewer that takes each of its adapters, the
    reference, and the data set whose validation papers are reviewed."""

    run: str
    reviewer: str
    dataset: Path
    reference: str
    max_papers: int | None = None
    min_papers: int = MIN_PAPERS


@dataclass(frozen=True)
class Checkpoint:
    """An adapter of the run, the step after which it was saved, and the reviewer that uses it."""

    step: int
    validation_loss: float
    adapter_sha256: str
    version: ReviewerVersion


@dataclass(frozen=True)
class CheckpointComparison:
    """A checkpoint compared with the one of the lowest validation loss.

    `figures` is None when no paper was matched; `problems` has a sentence for each
    unfinished paper.
    """

    checkpoint: Checkpoint
    comparison: int
    figures: MethodFigures | None
    problems: tuple[str, ...]

    @property
    def score(self) -> float:
        """From 0 to 1; 0.5 when nothing is known."""
        value = self.figures.total.score.value if self.figures else math.nan
        return value if math.isfinite(value) else 0.5


@dataclass(frozen=True)
class CheckpointChoice:
    """The run's checkpoints in ascending order of their validation losses."""

    incumbent: Checkpoint
    rivals: tuple[CheckpointComparison, ...]

    @property
    def best(self) -> Checkpoint:
        """The checkpoint with the highest score, and the lower loss among equals."""
        ahead = max(self.rivals, key=lambda rival: rival.score)
        return ahead.checkpoint if ahead.score > 0.5 else self.incumbent

    @property
    def problems(self) -> list[str]:
        """A sentence for each unfinished paper."""
        return [sentence for rival in self.rivals for sentence in rival.problems]


def choose(
    database: Database, settings: Settings, request: CheckpointRequest, steps: Steps
) -> CheckpointChoice:
    """Generate the missing reviews and compare the checkpoints.

    Raises UserError when the run has fewer than two adapters, or too few papers have been reviewed.
    """
    reference = version_named(database, request.reference)
    selection = select_papers(None, request.dataset, "validation")
    papers = papers_reviewed_by(database, reference, selection)[: request.max_papers]
    found = _checkpoints(database, request.run, request.reviewer)
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
        min_papers=request.min_papers,
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
    """Compare a checkpoint with side b of the plan."""
    plan = replace(plan, a=Side(checkpoint.version))
    ready = prepare(database, plan)
    problems = run_comparison(database, settings, plan, ready, None, steps)
    found = figures(read_comparison(database, ready.comparison.id))
    return CheckpointComparison(checkpoint, ready.comparison.id, found.headline, tuple(problems))


def _checkpoints(database: Database, run: str, name: str) -> list[Checkpoint]:
    """The run's adapters, each with a version of a reviewer named NAME~RUN-STEP."""
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
    return [_registered(database, each, config, run) for each in found]


def _registered(
    database: Database, adapter: Adapter, config: ReviewerConfig, run: str
) -> Checkpoint:
    adapter_registry.check_fits(adapter, config)
    metrics = adapter.metrics or {}
    step, loss = int(metrics["step"]), metrics.get("validation_loss")
    own = replace(config, name=f"{config.name}~{run}-{step}", adapter_sha256=adapter.sha256)
    version = roster.register_version(database, own)
    return Checkpoint(step, math.inf if loss is None else float(loss), adapter.sha256, version)
