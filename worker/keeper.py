"""The timer thread of a worker: leases, cancellations, signs of life, reconcile. Knows no model.

Everything here may fail for a while (the database or the broker is away) and is simply done again
at the next beat; what must not be lost is in the database.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict, dataclass

from celery import Celery

from db import jobs, nodes
from db.session import Database, DatabaseUnavailable
from settings import Settings
from worker.doorbell import ring, waiting
from worker.engines import EnginePool
from worker.in_flight import InFlight, Stopped

log = logging.getLogger("referee.keeper")

#: Messages that one reconcile sends at most; the next one sends the rest.
MAX_RINGS = 2000


@dataclass(frozen=True)
class Identity:
    """Who this worker process is, as the database keeps it. Empty text: there is none."""

    name: str
    host: str
    pid: int
    gpu: str
    queue: str
    base: str
    slots: int
    reviewer: str
    code_version: str


class Keeper(threading.Thread):
    """Beats every third of a lease until it is stopped."""

    def __init__(
        self,
        *,
        identity: Identity,
        database: Database,
        app: Celery,
        in_flight: InFlight,
        engines: EnginePool,
        settings: Settings,
    ) -> None:
        super().__init__(name="keeper", daemon=True)
        self._identity = identity
        self._database = database
        self._app = app
        self._in_flight = in_flight
        self._engines = engines
        self._settings = settings
        self._stop_event = threading.Event()
        self._next_reconcile = 0.0
        #: Set when the engine can do no more; the process then ends non-zero.
        self.engine_lost = threading.Event()

    def run(self) -> None:
        """Beat until stopped."""
        beat = min(self._settings.lease_seconds / 3, self._settings.reconcile_seconds)
        while not self._stop_event.wait(beat):
            self.beat()

    def stop(self) -> None:
        """End the thread after the beat in progress."""
        self._stop_event.set()
        self.join()

    def beat(self) -> None:
        """One round; a database that is away only costs this round."""
        if not self._engines.alive:
            self.engine_lost.set()
        try:
            self._renew()
            self._sign()
            self._reconcile_if_due()
        except DatabaseUnavailable as error:
            log.warning("%s", error)

    def _sign(self) -> None:
        """Show a sign of life, and learn whether an operator wants this worker to drain."""
        me = self._identity
        state = nodes.sign_of_life(self._database, me.name, reviewer=me.reviewer)
        if state is None:
            nodes.sign_on(self._database, **asdict(me))
        self._in_flight.paused = state == "draining"

    def _renew(self) -> None:
        held = self._in_flight.attempts()
        if not held:
            return
        renewal = jobs.renew(
            self._database,
            worker=self._identity.name,
            held=held,
            lease_seconds=self._settings.lease_seconds,
        )
        self._in_flight.stop(renewal.cancelled, Stopped.CANCELLED)
        self._in_flight.stop(renewal.lost, Stopped.LOST)

    def _reconcile_if_due(self) -> None:
        if time.monotonic() < self._next_reconcile:
            return
        self._next_reconcile = time.monotonic() + self._settings.reconcile_seconds
        due = reconcile(self._database, self._app, self._settings)
        if due:
            log.info("reconcile", extra={"about": {"action": "reconcile", "due": due}})


def reconcile(database: Database, app: Celery, settings: Settings) -> dict[str, int]:
    """Free expired leases and ring for waiting jobs that too few messages announce.

    Returns the claimable jobs by queue.
    """
    due = jobs.reconcile(database, max_attempts=settings.max_attempts)
    for queue, n_due in due.items():
        n_waiting = waiting(app, queue)
        if n_waiting is not None and n_waiting < n_due:
            ring(app, queue, min(n_due - n_waiting, MAX_RINGS))
    return due
