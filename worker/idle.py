"""How long a worker has had nothing to do, by the database's word."""

from __future__ import annotations

import time

from db import claims
from db.session import Database
from worker.in_flight import InFlight


class IdleWatch:
    """Counts the time in which no work waited on a queue and none was in flight here.

    From the first look that found none: a single one proves nothing, since a paper that is being
    claimed is for an instant neither waiting nor in flight, and looks may be far apart.
    """

    def __init__(
        self, database: Database, queue: str, in_flight: InFlight, limit_seconds: float
    ) -> None:
        self._database = database
        self._queue = queue
        self._in_flight = in_flight
        self._limit_seconds = limit_seconds
        self._taken = 0
        self._since: float | None = None

    def over(self) -> bool:
        """Look for work; True when there has been none for as long as the limit."""
        taken, self._taken = self._taken, self._in_flight.taken
        busy = self._in_flight.attempts() or taken != self._taken
        if busy or claims.has_work(self._database, self._queue):
            self.reset()
            return False
        now = time.monotonic()
        if self._since is None:
            self._since = now
            return False
        return now - self._since >= self._limit_seconds

    def reset(self) -> None:
        """Count anew: there was work, or nobody can say that there was none."""
        self._since = None
