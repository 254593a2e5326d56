"""Whether this process may judge that other workers' leases have run out.

A lease that ran out says that its worker died, but only while that worker could have renewed it.
When the database was away (a restart, a lock that somebody held, a cut cable) or the machine slept,
everyone's leases run out together. Whoever comes back first would then take papers from workers
that live, and their generations, minutes each, would be lost. So a process that has had no answer
for a while, and one that has just started, leaves leases alone until all others had a lease's time
to renew.
"""

from __future__ import annotations

import threading

from worker.clock import boottime

#: A lease is renewed when a third of it has passed, so a silence shorter than the other two thirds
#: costs nobody a lease.
_LONGEST_SILENCE = 0.6


class DatabaseLiveness:
    """Notes each answer of the database; for all threads of a process."""

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._last = boottime()
        self._trusted_from = self._last + lease_seconds

    def record_answer(self) -> bool:
        """Note that the database answers now; True when it has for as long as a lease."""
        with self._lock:
            now = boottime()
            if now - self._last > _LONGEST_SILENCE * self._lease_seconds:
                self._trusted_from = now + self._lease_seconds
            self._last = now
            return now >= self._trusted_from
