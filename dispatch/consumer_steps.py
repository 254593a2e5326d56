"""Steps that Referee adds to Celery's consumer: leases of messages, and one client a channel.

Both read internals of Celery and kombu; tests/integration/test_broker.py pins them.
"""

from __future__ import annotations

import time
from typing import Any

from celery import bootsteps
from celery.worker import state


class RenewMessageLeases(bootsteps.StartStopStep):
    """Renews the visibility timeout of all messages that this worker holds.

    Redis redelivers a message whose visibility timeout ran out even while its task runs
    (celery#5935). This step moves the deadline of every held message forward three times per
    timeout.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Begin renewing."""
        timeout = consumer.app.conf.broker_transport_options["visibility_timeout"]
        self._timer = consumer.timer.call_repeatedly(timeout / 3, _renew, (consumer,))

    def stop(self, consumer: Any) -> None:
        """Stop renewing; the messages ring again one timeout later."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _renew(consumer: Any) -> None:
    channel = consumer.task_consumer.channel
    held = [
        request._message.delivery_tag
        for request in tuple(state.reserved_requests)
        if not request.acknowledged
    ]
    if held:
        with channel.conn_or_acquire() as client:
            # XX: a message that was acknowledged meanwhile must not come back.
            client.zadd(channel.unacked_index_key, dict.fromkeys(held, time.time()), xx=True)


class KeepOneClient(bootsteps.StartStopStep):
    """Gives the channel that consumes one client for all commands that do not wait.

    kombu 5.7 makes a redis client, with a table of 150 replies, for each message that it notes or
    acknowledges, which took a fifteenth of a busy worker's time. The client has no state of its
    own: the channel's pool holds the connections, and a channel does not outlive its pool.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Replace what makes clients; a reconnected consumer has a new channel."""
        channel = consumer.task_consumer.channel
        make = channel._create_client
        client = make()
        channel._create_client = lambda asynchronous=False: make(True) if asynchronous else client
