"""Seconds that are counted while the machine sleeps, too.

A lease is timed by the database, which does not sleep when a worker's machine does. Whoever judges
leases must not take a night's sleep for an instant. `time.monotonic()` does: it stands still on
Linux and macOS. It is right for what a sleep interrupts as well, such as the silence of an engine.
"""

from __future__ import annotations

import time

#: macOS has no CLOCK_BOOTTIME, and counts sleep in CLOCK_MONOTONIC. Elsewhere monotonic() does.
_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def boottime() -> float:
    """Seconds since some point before this process began, sleep included."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)
