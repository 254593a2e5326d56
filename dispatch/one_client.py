"""A Celery consumer step: the broker's channel keeps its client.

kombu 5.7 makes a redis client, with a table of 150 replies, for each message that it notes or
acknowledges; that took a fifteenth of a busy worker's time. The client has no state of its own: the
channel's pool holds the connections, and a channel does not outlive its pool.
tests/integration/test_broker.py pins what this reads of kombu.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps


class KeepOneClient(bootsteps.StartStopStep):  # type: ignore[misc] # celery has no types
    """Gives the channel that consumes one client for all commands that do not wait."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Take the place of what makes clients; a reconnected consumer has a new channel."""
        channel = consumer.task_consumer.channel
        make = channel._create_client
        client = make()
        channel._create_client = lambda asynchronous=False: make(True) if asynchronous else client
