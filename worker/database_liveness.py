"""Whether this process may decide that other workers' leases have run out.

A lease that ran out says that its worker died, but only while that worker could have renewed it.
When the database was away (a restart, a held lock, a cut cable) or the machine slept, all leases
run out together. The first process to return would then take papers from workers that live, and
minutes of generation would be lost with each. So a process that has had no answer for a while, and
one that has just started, leaves leases alone until all others had a lease's time to renew.
"""

from __future__ import annotations

import threading
import time

#: A lease is renewed when a third of it has passed, so a silence shorter than the other two thirds
#: costs no worker its lease.
_LONGEST_SILENCE = 0.6
#: macOS has no CLOCK_BOOTTIME, and counts sleep in CLOCK_MONOTONIC. Elsewhere monotonic() does.
_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def boottime() -> float:
    """Seconds since some point before this process began, including those that the machine slept.

    The database times leases and does not sleep with a worker's machine. `time.monotonic()` stands
    still meanwhile on Linux and macOS, so a night's sleep would pass for an instant. It is right
    for what a sleep interrupts as well, such as the silence of an engine.
    """
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class DatabaseLiveness:
    """Records each answer of the database; for all threads of a process."""

    def __init__(self, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._last = boottime()
        self._trusted_from = self._last + lease_seconds

    def record_answer(self) -> bool:
        """Record that the database answers now; True if it has for as long as a lease."""
        with self._lock:
            now = boottime()
            if now - self._last > _LONGEST_SILENCE * self._lease_seconds:
                self._trusted_from = now + self._lease_seconds
            self._last = now
            return now >= self._trusted_from
