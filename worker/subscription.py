"""Whether a worker consumes doorbells from its queues, switched while its tasks run.

A draining worker that still consumed would take the doorbells of other workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import signals


class Subscription:
    """The queues of a worker, consumed or not; any thread may call `listen`."""

    def __init__(self, queues: Sequence[str]) -> None:
        self._queues = queues
        self._wanted = True
        self._consumer: Any = None
        signals.worker_ready.connect(self._ready, weak=False)

    def listen(self, wanted: bool) -> None:
        """Consume the queues or not; repeated at every beat, since a reconnect may lose a call."""
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
            return  # the broker is unavailable
        for queue in self._queues:
            listens = consumer.task_consumer.consuming_from(queue)
            if listens and not self._wanted:
                consumer.cancel_task_queue(queue)
            elif self._wanted and not listens:
                # Cancelling also forgets a queue for the next reconnect; adding does not undo it.
                consumer.app.amqp.queues.select(self._queues)
                consumer.add_task_queue(queue)
