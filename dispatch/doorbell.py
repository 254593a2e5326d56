"""Sends doorbells: messages that tell workers that there is work."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.utils.saferepr import saferepr
from kombu.exceptions import OperationalError
from kombu.utils.json import dumps
from redis import RedisError

from dispatch.app import REVIEW_TASK

#: A command fails fast when no broker answers; reconcile sends doorbells later, because the
#: database, not the message, has what waits.
_CONNECT_RETRIES = 1
#: Messages that one round trip carries.
_PIPELINE_SIZE = 500
#: Messages that wait in a queue at most. Each wakes a slot, which then works until nothing waits:
#: these are enough for 20 GPUs at once, and reconcile rings for more.
MAX_WAITING_MESSAGES = 2000


def ring(
    app: Celery,
    queue: str,
    times: int,
    *,
    up_to: int = MAX_WAITING_MESSAGES,
    batch: str | None = None,
) -> bool:
    """Send `times` messages, but let no more than `up_to` wait; False without a broker.

    They go together: one at a time, they cost the broker as many round trips. A broker that froze
    is waited for twice, with two seconds in between: 12 s in all.
    """
    if times <= 0:
        return True
    try:
        with app.producer_pool.acquire(block=True, timeout=10) as producer:
            producer.connection.ensure_connection(max_retries=_CONNECT_RETRIES)
            times = min(times, up_to - _waiting(producer.channel, queue))
            for start in range(0, times, _PIPELINE_SIZE):
                _push(app, producer.channel, queue, min(times - start, _PIPELINE_SIZE), batch)
    except (OperationalError, OSError, RedisError):
        # redis-py's own errors escape kombu here.
        return False
    return True


def announce(app: Celery, due: Mapping[str, int]) -> bool:
    """Ring for waiting jobs, given by queue, that too few messages announce.

    False without a broker: the first queue that fails is the last to be tried.
    """
    return all(
        ring(app, queue, n_due, up_to=min(n_due, MAX_WAITING_MESSAGES))
        for queue, n_due in due.items()
    )


class Announcer:
    """Announces waiting jobs for a thread that must not wait for the broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._round = threading.Thread()

    def announce(self, due: Mapping[str, int]) -> None:
        """Ring in a thread, unless the last round is still under way: the next reconcile counts
        anew."""
        if due and not self._round.is_alive():
            self._round = threading.Thread(
                target=announce, args=(self._app, due), name="announcer", daemon=True
            )
            self._round.start()


class QueueDoorbell:
    """Sends doorbells on one queue, for the slots of a worker."""

    def __init__(self, app: Celery, queue: str) -> None:
        self._app, self._queue = app, queue
        self._ringing = threading.Lock()

    def ring(self) -> bool:
        """Send one message; False without a broker, and while another slot sends its own.

        While the broker is away, all slots would else wait for it, and for the process's few
        connections.
        """
        if not self._ringing.acquire(blocking=False):
            return False
        try:
            return ring(self._app, self._queue, 1)
        finally:
            self._ringing.release()


def _push(app: Celery, channel: Any, queue: str, times: int, batch: str | None) -> None:
    with channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipeline:
        for message in _messages(app, channel, queue, times, batch):
            # Consumers take from a queue's list by its name (kombu's priority 0).
            pipeline.lpush(queue, dumps(message))
        pipeline.execute()


def _messages(
    app: Celery, channel: Any, queue: str, times: int, batch: str | None
) -> Iterator[dict[str, Any]]:
    """The messages as Celery and kombu's Redis transport lay them out; test_broker.py pins it."""
    kwargs = {"batch": batch}
    # Celery's own representations, made once: each takes as long as the rest of a message.
    shown = {"argsrepr": saferepr(()), "kwargsrepr": saferepr(kwargs)}
    for _ in range(times):
        task = app.amqp.as_task_v2(str(uuid4()), REVIEW_TASK, kwargs=kwargs, **shown)
        message = channel.prepare_message(
            dumps(task.body),
            content_type="application/json",
            content_encoding="utf-8",
            headers=task.headers,
            properties={**task.properties, "delivery_mode": 2},
        )
        # Adds the delivery tag by which the message is acknowledged.
        channel._inplace_augment_message(message, "", queue)
        yield message


def _waiting(channel: Any, queue: str) -> int:
    with channel.conn_or_acquire() as client:
        return int(client.llen(queue))
