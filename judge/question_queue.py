"""Questions to a judge by way of the queue, or here when no cpu worker takes them. Knows no model.

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
from judge.comparing import Progress
from judge.judging import Ask, Judge, JudgeOptions, check_may_send, pending
from judge.tasks import JUDGE_TASK
from settings import Settings

#: How often the database is looked at, in seconds.
_POLL_SECONDS = 0.5
#: Times that a question is sent before it is given up.
_ROUNDS = 3
#: Seconds without a verdict after which what is left is sent again, beyond one answer's time-out.
_PATIENCE_SECONDS = 30.0


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
    asks = pending(database, comparison, options)
    if not asks:
        return []
    app = _app_with_worker(database, settings)
    if app is None:
        judge = Judge(database, settings, options)
        try:
            return judge.answer_all(asks, progress)
        finally:
            judge.close()
    return _by_queue(app, lambda: pending(database, comparison, options), len(asks), progress)


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
    app: Celery, left: Callable[[], Sequence[Ask]], total: int, progress: Progress
) -> list[str]:
    asks = left()
    for _ in range(_ROUNDS):
        if not send(app, asks):
            return ["the broker does not answer; run the command again"]
        asks = _wait(left, total, progress, asks[0].options.timeout_s + _PATIENCE_SECONDS)
        if not asks:
            return []
    return [f"paper {ask.paper_id}: no verdict; the workers' logs say why" for ask in asks]


def _wait(
    left: Callable[[], Sequence[Ask]], total: int, progress: Progress, patience: float
) -> Sequence[Ask]:
    """Wait until nothing is left, or nothing has come for `patience` seconds."""
    asks, since = left(), time.monotonic()
    while asks and time.monotonic() - since < patience:
        time.sleep(_POLL_SECONDS)
        before, asks = len(asks), left()
        progress(total - len(asks), total)
        if len(asks) < before:
            since = time.monotonic()
    return asks


def send(app: Celery, asks: Sequence[Ask]) -> bool:
    """Put questions on the cpu queue; False when the broker cannot be reached."""
    try:
        with app.producer_pool.acquire(block=True, timeout=10) as producer:
            for ask in asks:
                app.send_task(
                    JUDGE_TASK, kwargs={"ask": ask.to_json()}, queue=CPU_QUEUE, producer=producer
                )
    except (OperationalError, OSError):
        return False
    return True
