"""The demo: the example papers, reviewed with every real part on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from db import batch_progress
from db.batch_progress import BatchStatus
from db.batch_records import BatchOptions
from db.session import Database
from dispatch import roster
from dispatch.progress import Progress
from dispatch.submission import PRIORITIES, SubmitInput, submit_papers
from dispatch.waiting import FINISHED, wait_for_batch
from errors import MissingPart
from models.text.reviewer import ReviewerConfig
from models.weights import store
from resources import package_folder
from settings import Settings
from worker.up import Stack

EXAMPLES = package_folder("examples") / "papers"
#: The paper that a repeated demo reviews again.
_ONE_EXAMPLE = "N18-3011.pdf"
#: Maximum wait for the first heartbeat of the demo's worker, which loads a model, in seconds.
_STALL_SECONDS = 120.0


@dataclass(frozen=True)
class DemoBatch:
    """What this run of the demo submits."""

    name: str
    paths: tuple[str, ...]


def reviewer(name: str) -> ReviewerConfig:
    """The demo's reviewer."""
    config = roster.shipped(name)
    if config is None or config.base is None:
        raise MissingPart(f"{name} is not a local reviewer that comes with Referee.")
    return config


def fetch_model(config: ReviewerConfig, settings: Settings, say: Callable[[str], None]) -> None:
    """Fetch the small model unless it is on this machine."""
    if config.base is not None and not settings.engine:
        store.fetch(config.base, settings.home, say)


def next_batch(database: Database) -> DemoBatch:
    """All examples the first time; then a new sample of one of them, which takes a minute."""
    states = {s.name: s.state for s in batch_progress.statuses(database)}
    if states.get("demo") not in FINISHED:
        return DemoBatch("demo", (str(EXAMPLES),))
    number = next(n for n in count(2) if states.get(f"demo-{n}") not in FINISHED)
    return DemoBatch(f"demo-{number}", (str(EXAMPLES / _ONE_EXAMPLE),))


def run(stack: Stack, config: ReviewerConfig, batch: DemoBatch, progress: Progress) -> BatchStatus:
    """Submit the papers to the running stack and wait for their reviews."""
    settings = stack.settings.model_copy(update={"broker_url": stack.broker.url})
    outcome = submit_papers(
        SubmitInput(batch.paths),
        stack.database,
        settings,
        batch_name=batch.name,
        reviewer_name=config.name,
        options=BatchOptions(PRIORITIES["high"], None, 1, False),
        progress=lambda done, total: None,
    )
    return wait_for_batch(
        stack.database,
        outcome.batch,
        queue=config.queue,
        progress=progress,
        stall_seconds=_STALL_SECONDS,
        check=stack.check,
    )
