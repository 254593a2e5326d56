"""A worker whose engine hangs exits, even when other threads are blocked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from testing import ROOT


@pytest.mark.parametrize(("silent_seconds", "code"), [(0.0, 0), (9.0, 70)])
def test_process_ends_only_when_the_engine_hangs(silent_seconds: float, code: int) -> None:
    # Given a process whose main thread would wait for a task that hangs, for 0.5 s here
    program = (
        "import threading; from worker.watchdog import watch\n"
        f"watch(lambda: {silent_seconds}, 0.2, 70)\n"
        "threading.Event().wait(0.5 if not " + str(silent_seconds) + " else 60)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=50, check=False)
    assert done.returncode == code
