"""The Celery application: settings, queues and the one review task's name.

A message is a doorbell: it says that there is work on a queue and nothing else. It wakes a slot,
which reviews until nothing waits. Which job is done is decided by a claim in the database, so a
lost, doubled or late message costs one statement.
"""

from __future__ import annotations

from celery import Celery

from dispatch.consumer_steps import KeepOneClient, RenewMessageLeases
from settings import Settings

REVIEW_TASK = "referee.review"
#: Queue of API reviewers and of merging by an API; cpu workers also serve the queues of kinds of
#: jobs that have one (`dispatch.kinds`).
CPU_QUEUE = "cpu"

#: Seconds without an answer after which a socket to the broker counts as dead.
_HEALTH_CHECK_SECONDS = 10
#: Seconds that a command may wait for the broker, and a connection for being made. A host that
#: froze or vanished closes no socket: without this, a thread waits for TCP to give up, 15 minutes.
#: Consumers are not cut off: their BRPOP is read when its answer is there.
_ANSWER_SECONDS: float = 5


def make_app(broker_url: str, settings: Settings) -> Celery:
    """Build the application for one broker."""
    app = Celery("referee", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        # There are no results; one backend for all threads, or each of them looks for plug-ins.
        result_backend_thread_safe=True,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=CPU_QUEUE,
        worker_prefetch_multiplier=1,
        worker_pool="threads",
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            # The lease step renews held messages, so this bounds only how soon a dead worker's
            # messages ring again, not how long a review may take.
            "visibility_timeout": settings.lease_seconds,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_keepalive": True,
            "socket_connect_timeout": _ANSWER_SECONDS,
            "socket_timeout": _ANSWER_SECONDS,
            "health_check_interval": _HEALTH_CHECK_SECONDS,
        },
    )
    app.steps["consumer"].update((RenewMessageLeases, KeepOneClient))
    return app
