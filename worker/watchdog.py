"""Ends a worker whose engine hangs."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

log = logging.getLogger("referee.watchdog")

#: Checks of the engine within the time that it may make no progress.
_CHECKS = 10


def watch(silent_seconds: Callable[[], float], limit_seconds: float, exit_code: int) -> None:
    """Exit the process when the engine has made no progress for too long.

    Runs in a thread of its own. A thread that is stuck in a device call cannot be ended otherwise,
    and the tasks that wait for it would block an orderly stop.
    """

    def look() -> None:
        pause = threading.Event()
        while not pause.wait(limit_seconds / _CHECKS):
            if silent_seconds() > limit_seconds:
                log.critical("no token for %.0f s: ending this process", limit_seconds)
                logging.shutdown()
                os._exit(exit_code)

    threading.Thread(target=look, name="watchdog", daemon=True).start()
