"""Signals that stop a command."""

from __future__ import annotations

import signal


def interrupt_on_sigterm() -> None:
    """Handle SIGTERM, as sent by a service manager, like Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
