"""A worker drains on a stop signal, also on repeated ones."""

from __future__ import annotations

import sys
import threading
from types import FrameType

import pytest
from celery import signals

from tests.site import wait_until
from worker.in_flight import InFlight
from worker.process import _drain_on_shutdown


def test_a_second_signal_while_the_first_is_handled_does_not_stop_the_drain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a worker that receives a stop signal
    monkeypatch.setattr(signals.worker_shutting_down, "receivers", [])
    in_flight = InFlight()
    _drain_on_shutdown(in_flight, 0.0)

    def tell() -> None:
        signals.worker_shutting_down.send(sender=None, sig="SIGTERM", how="Warm", exitcode=0)

    # When a second signal arrives at any point of its handler
    def interrupt(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == threading.__file__:
            sys.setprofile(None)
            tell()
            sys.setprofile(interrupt)

    def tell_twice() -> None:
        sys.setprofile(interrupt)
        tell()
        sys.setprofile(None)
        tell()

    told = threading.Thread(target=tell_twice, daemon=True)
    told.start()
    told.join(10)
    # Then it handles both, and drains
    assert not told.is_alive()
    wait_until(lambda: in_flight.closed, 10)
