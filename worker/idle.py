"""How long a worker's queues have been empty, as the database shows it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from db import claims
from db.session import Database
from dispatch.kinds import KINDS
from worker.in_flight import InFlight


class IdleWatch:
    """Counts the time in which no job of its queues waited or ran, on this worker or any other.

    Only the database knows of every job: a claim that has just been committed is not yet in this
    process's register, and a job that another worker holds may be given back.
    """

    def __init__(
        self,
        database: Database,
        queues: Sequence[str],
        in_flight: InFlight,
        limit_seconds: float,
    ) -> None:
        self._database = database
        self._queues = queues
        self._in_flight = in_flight
        self._limit_seconds = limit_seconds
        self._taken = 0
        self._since: float | None = None

    def over(self) -> bool:
        """Check for work; True when there has been none for as long as the limit.

        The time counts from the first check that found none, since checks may be far apart.
        """
        taken, self._taken = self._taken, self._in_flight.taken
        if taken != self._taken or self.has_live_jobs():
            self.reset()
            return False
        now = time.monotonic()
        if self._since is None:
            self._since = now
            return False
        return now - self._since >= self._limit_seconds

    def has_live_jobs(self) -> bool:
        """Whether a job of the queues, of a kind known here, waits or runs at this moment."""
        return claims.has_live_jobs(self._database, self._queues, KINDS)

    def reset(self) -> None:
        """Start counting again: there was work, or the database could not be asked."""
        self._since = None
