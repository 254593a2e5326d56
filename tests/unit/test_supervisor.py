"""A supervisor survives errors while it starts a child process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.site import wait_until
from worker import supervisor
from worker.supervisor import MAX_FAST_FAILURES, ChildSpec, Supervisor


def test_error_while_starting_a_child_counts_as_a_failed_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a child that ends at once, on a machine that then cannot start a process
    monkeypatch.setattr(supervisor, "FIRST_BACKOFF_SECONDS", 0.0)
    child = ChildSpec("x", ("--no-such-option",), {}, tmp_path / "x.log")
    watching = Supervisor(stop_seconds=1)
    watching.start([child])
    tried = []

    def refuse(_: object) -> None:
        tried.append(1)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(supervisor, "_spawn", refuse)
    try:
        # Then it is retried up to the limit, and the failure is logged
        wait_until(lambda: watching.failed() == [child], 60)
        assert len(tried) == MAX_FAST_FAILURES - 1
        assert watching.over()
    finally:
        watching.stop()
