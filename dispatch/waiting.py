"""Waiting until a batch is done, or until no worker is left that could finish it."""

from __future__ import annotations

import time
from collections.abc import Callable

from db import batch_progress, reconcile, worker_nodes
from db.batch_progress import BatchStatus
from db.session import Database
from errors import MissingPart

#: How often a waiting command polls, in seconds.
_POLL_SECONDS = 0.5
#: Final states of a batch.
FINISHED = frozenset({"completed", "failed", "expired", "cancelled"})


def wait_for_batch(
    database: Database,
    name: str,
    *,
    queue: str,
    progress: Callable[[int, int], None],
    stall_seconds: float,
    check: Callable[[], None] = lambda: None,
) -> BatchStatus:
    """Block until every job of a batch is terminal.

    Raises MissingPart when no worker that lives has taken or held papers of the queue for
    `stall_seconds`; whatever `check` raises ends the wait as well.
    """
    alone_since = time.monotonic()
    while True:
        reconcile.expire_deadlines(database)
        status = batch_progress.status(database, name)
        progress(_n_terminal(status), status.counts["total"])
        if status.state in FINISHED:
            return status
        check()
        if _served(database, queue, stall_seconds):
            alone_since = time.monotonic()
        elif time.monotonic() - alone_since > stall_seconds:
            raise MissingPart(_nobody(database, queue, name))
        time.sleep(_POLL_SECONDS)


def _n_terminal(status: BatchStatus) -> int:
    return sum(status.counts[state] for state in ("succeeded", "failed", "cancelled", "expired"))


def _served(database: Database, queue: str, stall_seconds: float) -> bool:
    """Whether a worker is alive that takes papers, or drains and still has some."""
    return any(
        queue in node.queues
        and node.age_s < stall_seconds
        and (node.state == "active" or node.running)
        for node in worker_nodes.listing(database)
    )


def _nobody(database: Database, queue: str, batch: str) -> str:
    listed = worker_nodes.listing(database)
    drain = any(queue in node.queues and node.state == "draining" for node in listed)
    command = "referee worker --cpu" if queue.startswith("cpu") else "referee worker"
    remedy = (
        "those there are drain, `referee workers` says why and `referee workers resume` ends it"
        if drain
        else f"start one with `referee up` or `{command}`"
    )
    return (
        f"No worker serves the queue {queue}: {remedy}. "
        f"The batch {batch} is stored and goes on then."
    )
