"""Rings for workers: sends messages that say "there is work". Knows nothing of which work it is."""

from __future__ import annotations

from celery import Celery
from kombu.exceptions import OperationalError

from worker.app import REVIEW_TASK

#: A command fails fast when no broker answers; reconcile rings later (design: the database is
#: the outbox).
_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.1}


def ring(app: Celery, queue: str, times: int, *, batch: str | None = None) -> bool:
    """Send `times` messages to a queue; False when the broker cannot be reached."""
    if times <= 0:
        return True
    try:
        with app.producer_pool.acquire(block=True, timeout=10) as producer:
            for _ in range(times):
                app.send_task(
                    REVIEW_TASK,
                    kwargs={"batch": batch},
                    queue=queue,
                    producer=producer,
                    retry=True,
                    retry_policy=_RETRY_POLICY,
                )
    except (OperationalError, OSError):
        return False
    return True


def waiting(app: Celery, queue: str) -> int | None:
    """Messages that wait in a queue; None when the broker cannot be reached."""
    try:
        with app.connection_for_write(transport_options={"max_retries": 1}) as connection:
            client = connection.default_channel.client
            return int(client.llen(queue))
    except (OperationalError, OSError):
        return None
    except Exception as error:
        # redis-py's own errors escape kombu here; their class is not part of kombu's interface.
        if type(error).__module__.startswith("redis"):
            return None
        raise
