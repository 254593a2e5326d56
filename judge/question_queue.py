"""Questions to a judge by way of the queue, or here when no cpu worker takes them.

The message is only a way to have work done elsewhere: the database says what is left, and what has
no verdict after a while is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from celery import Celery
from kombu.exceptions import OperationalError

from db import worker_nodes
from db.comparisons import Comparison
from db.session import Database
from dispatch import broker
from dispatch.app import CPU_QUEUE, make_app
from dispatch.progress import Progress
from judge.judging import Judge, JudgeOptions, JudgeQuestion, check_may_send, pending
from judge.tasks import JUDGE_TASK
from settings import Settings

#: How often the database is looked at, in seconds.
_POLL_SECONDS = 0.5
#: Times that a question is sent before it is given up.
_ROUNDS = 3
#: Seconds without a verdict after which what is left is sent again, beyond one answer's time-out.
_STALL_SECONDS = 30.0


def judge_all(
    database: Database,
    settings: Settings,
    comparison: Comparison,
    options: JudgeOptions,
    progress: Progress,
) -> list[str]:
    """Have every question answered; a sentence for each that could not be.

    Raises UserError when reviews may not be sent to the judge's endpoint.
    """
    check_may_send(options, settings)
    questions = pending(database, comparison, options)
    if not questions:
        return []
    app = _app_with_worker(database, settings)
    if app is None:
        judge = Judge(database, settings, options)
        try:
            return judge.answer_all(questions, progress)
        finally:
            judge.close()
    return _by_queue(app, lambda: pending(database, comparison, options), len(questions), progress)


def _app_with_worker(database: Database, settings: Settings) -> Celery | None:
    """The application, if a broker answers and a cpu worker lives that takes questions."""
    found = broker.find(settings)
    listens = any(
        node.queue == CPU_QUEUE and node.state == "active" and node.age_s < settings.lease_seconds
        for node in worker_nodes.listing(database)
    )
    if found is None or not listens or not found.answers():
        return None
    return make_app(found.url, settings)


def _by_queue(
    app: Celery, left: Callable[[], Sequence[JudgeQuestion]], total: int, progress: Progress
) -> list[str]:
    questions = left()
    for _ in range(_ROUNDS):
        if not send(app, questions):
            return ["the broker does not answer; run the command again"]
        questions = _wait(left, total, progress, questions[0].options.timeout_s + _STALL_SECONDS)
        if not questions:
            return []
    return [f"paper {ask.paper_id}: no verdict; the workers' logs say why" for ask in questions]


def _wait(
    left: Callable[[], Sequence[JudgeQuestion]], total: int, progress: Progress, idle_seconds: float
) -> Sequence[JudgeQuestion]:
    """Wait until nothing is left, or nothing has come for `idle_seconds` seconds."""
    questions, since = left(), time.monotonic()
    while questions and time.monotonic() - since < idle_seconds:
        time.sleep(_POLL_SECONDS)
        before, questions = len(questions), left()
        progress(total - len(questions), total)
        if len(questions) < before:
            since = time.monotonic()
    return questions


def send(app: Celery, questions: Sequence[JudgeQuestion]) -> bool:
    """Put questions on the cpu queue; False when the broker cannot be reached."""
    try:
        with app.producer_pool.acquire(block=True, timeout=10) as producer:
            for ask in questions:
                app.send_task(
                    JUDGE_TASK, kwargs={"ask": ask.to_json()}, queue=CPU_QUEUE, producer=producer
                )
    except (OperationalError, OSError):
        return False
    return True
