"""Judging through the queue: a job for each question, or asked here when no worker takes them.

The jobs of one comparison and one judge are a batch. Run again, the command finds its batch, adds
what is missing and waits; verdicts are stored by the workers.
"""

from __future__ import annotations

from collections.abc import Sequence

from db import (
    batch_control,
    batch_papers,
    batch_progress,
    batch_records,
    comparisons,
    worker_nodes,
)
from db.batch_progress import FailedJob
from db.batch_records import BatchOptions
from db.comparisons import Comparison
from db.enqueue import NewJob
from db.reviewers import ReviewerVersion
from db.schema import JUDGE_QUEUE
from db.session import Database
from dispatch import broker
from dispatch.progress import Progress
from dispatch.submission import doorbell_for
from dispatch.waiting import wait_for_batch
from judge.judges import register_judge
from judge.judging import (
    Judge,
    JudgeOptions,
    JudgeQuestion,
    allowed_without_asking,
    check_may_send,
    pending,
)
from settings import Settings

#: Digits of a paper's hash by which its jobs are named.
_HASH_DIGITS = 16


def judge_all(
    database: Database,
    settings: Settings,
    comparison: Comparison,
    options: JudgeOptions,
    progress: Progress,
) -> list[str]:
    """Have every question answered; a sentence for each that could not be.

    Raises UserError when reviews may not be sent to the judge's endpoint, or when the batch of
    questions was cancelled; MissingPart when its jobs wait and no worker takes them.
    """
    check_may_send(options, settings)
    questions = pending(database, comparison, options)
    if not questions:
        return []
    version = register_judge(database, options.config)
    name = batch_name(comparison, version)
    # Questions that are queued are the workers', even if none is there at the moment.
    if batch_progress.n_live(database, name) or _is_served(database, settings):
        queue_questions(database, settings, comparison, version, options, questions)
        wait_for_batch(
            database,
            name,
            queue=version.queue,
            progress=progress,
            stall_seconds=settings.lease_seconds,
        )
        left = pending(database, comparison, options)
        return _problems(left, batch_progress.failures(database, name))
    judge = Judge(database, settings, options)
    try:
        return judge.answer_all(questions, progress)
    finally:
        judge.close()


def batch_name(comparison: Comparison, judge: ReviewerVersion) -> str:
    """The batch of a comparison's questions to one judge."""
    return f"judge-{comparison.id}-r{judge.id}"


def _is_served(database: Database, settings: Settings) -> bool:
    """Whether a broker answers and a worker lives that takes questions."""
    serves = any(
        JUDGE_QUEUE in node.queues
        and node.state == "active"
        and node.age_s < settings.lease_seconds
        for node in worker_nodes.listing(database)
    )
    found = broker.find(settings) if serves else None
    return found is not None and found.answers()


def queue_questions(
    database: Database,
    settings: Settings,
    comparison: Comparison,
    version: ReviewerVersion,
    options: JudgeOptions,
    questions: Sequence[JudgeQuestion],
) -> str:
    """Queue what is not queued yet and what failed before; give the batch's name."""
    name = batch_name(comparison, version)
    # As needed: the batch can then be resumed without the option where none is needed.
    allow_external = options.allow_external and not allowed_without_asking(options, settings)
    batch = batch_records.open_batch(
        database, name, version, BatchOptions(allow_external=allow_external)
    )
    announce = doorbell_for(settings, batch)
    papers = comparisons.papers_of(database, comparison.id)
    hashes = {paper.paper_id: paper.sha256 for paper, _ in papers}
    jobs = [_job(ask, hashes[ask.paper_id]) for ask in questions]
    for start in range(0, len(jobs), batch_papers.MAX_PAPERS):
        chunk = jobs[start : start + batch_papers.MAX_PAPERS]
        announce(batch_papers.add_jobs(database, batch, chunk))
    announce(batch_control.retry(database, name))
    batch_records.finish_submit(database, batch)
    return name


def _sample(ask: JudgeQuestion) -> int:
    """Both orders and repetitions of a paper are samples of it."""
    return 2 * ask.repetition + (ask.shown_first == "b")


def _job(ask: JudgeQuestion, paper_sha256: str) -> NewJob:
    return NewJob(
        custom_id=paper_sha256[:_HASH_DIGITS],
        sample=_sample(ask),
        source=f"comparison {ask.comparison_id}",
        paper_id=ask.paper_id,
        kind="judge",
        about=ask.about,
    )


def _problems(left: Sequence[JudgeQuestion], failed: Sequence[FailedJob]) -> list[str]:
    reasons = {(job.paper_id, job.sample): job.error for job in failed}
    missing = "its job was cancelled or has expired; `referee retry` queues it again"
    return [
        f"paper {ask.paper_id}: {reasons.get((ask.paper_id, _sample(ask)), missing)}"
        for ask in left
    ]
