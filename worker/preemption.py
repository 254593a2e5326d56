"""Preemption: a full worker returns its youngest paper of the lowest priority for an urgent one.

The urgent job is claimed first, in one statement, so that of many full workers one preempts a job
for it. The preempted job returns to the queue without using up an attempt.
"""

from __future__ import annotations

import logging
import threading

from db import claims, completion
from db.claims import HIGH_PRIORITY, Claim
from db.session import Database, DatabaseUnavailable
from dispatch.kinds import KINDS
from settings import Settings
from worker.identity import Identity
from worker.in_flight import InFlight

log = logging.getLogger("referee.preemption")

#: Interval between two checks, in seconds. No doorbell reaches a full worker: its messages are all
#: in use. A check is one read by the index of waiting jobs, and none while a slot is free.
CHECK_SECONDS = 2.0
#: A deadline would pass if it is nearer than this many times the time of a typical paper: one until
#: a slot is free, and one for the paper itself.
_TYPICAL_PAPERS = 2.0


class Preemption(threading.Thread):
    """Lets an urgent job preempt another, one at a time."""

    def __init__(
        self, identity: Identity, database: Database, in_flight: InFlight, settings: Settings
    ) -> None:
        super().__init__(name="preemption", daemon=True)
        self._identity = identity
        self._database = database
        self._in_flight = in_flight
        self._settings = settings
        self._stop_event = threading.Event()

    def run(self) -> None:
        """Check until stopped, whatever fails in one check."""
        while not self._stop_event.wait(CHECK_SECONDS):
            try:
                self.check()
            except DatabaseUnavailable as error:
                log.warning("%s", error)
            except Exception:
                log.exception("a check failed")

    def stop(self) -> None:
        """End the thread, if it was started, after the current check."""
        self._stop_event.set()
        if self.is_alive():
            self.join()

    def check(self) -> bool:
        """Preempt one job if an urgent one waits and every slot is busy."""
        with self._in_flight.preemption(self._identity.slots) as preemptible:
            if preemptible is None:
                return False
            urgent = self._claim_urgent(preemptible)
            if urgent is None:
                return False
            if self._in_flight.preempt(preemptible, urgent):
                return True
            # A slot has become free meanwhile. Its thread waits to claim, or has gone.
            completion.release(
                self._database, urgent, reason="a slot became free", keep_attempt=True
            )
            return False

    def _claim_urgent(self, preemptible: Claim) -> Claim | None:
        if preemptible.priority == HIGH_PRIORITY:
            return None
        return claims.claim_urgent(
            self._database,
            below=preemptible.priority,
            within_seconds=_TYPICAL_PAPERS * self._in_flight.typical_seconds,
            queues=self._identity.queues,
            kinds=KINDS,
            worker=self._identity.name,
            lease_seconds=self._settings.lease_seconds,
            max_attempts=self._settings.max_attempts,
        )
