"""Whether a worker takes doorbells from its queue: stopped and started while its tasks run.

A draining worker that still listened would take the doorbells of others.
"""

from __future__ import annotations

from typing import Any

from celery import signals


class Subscription:
    """A worker's queue, which it consumes unless told otherwise; any thread may tell it."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._wanted = True
        self._consumer: Any = None
        signals.worker_ready.connect(self._ready, weak=False)

    def listen(self, wanted: bool) -> None:
        """Consume the queue or not; said at every beat, since a reconnect may swallow one."""
        self._wanted = wanted
        if self._consumer is not None:
            # Celery's loop owns the channel.
            self._consumer.call_soon(self._apply)

    def _ready(self, sender: Any, **_: Any) -> None:
        self._consumer = sender
        self._apply()

    def _apply(self) -> None:
        consumer = self._consumer
        if consumer.task_consumer is None:
            return  # the broker is away
        listens = consumer.task_consumer.consuming_from(self._queue)
        if listens and not self._wanted:
            consumer.cancel_task_queue(self._queue)
        elif self._wanted and not listens:
            # Cancelling also forgets the queue for the next reconnect; adding does not undo that.
            consumer.app.amqp.queues.select([self._queue])
            consumer.add_task_queue(self._queue)
