"""Supervises child processes: starts them, restarts them with back-off, stops them together."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from subprocesses import python_command
from worker.process import HEALTH_FILE_VARIABLE, SUPERVISED

log = logging.getLogger("referee.supervisor")

#: Seconds before a child that ended is started again, first and longest wait.
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
#: A child that ran this long, or has done work, counts as healthy: its next failure waits the
#: first back-off again. Longer than a start, or a broken GPU would count as healthy.
HEALTHY_SECONDS = 600.0
#: A child that fails this often without being healthy will not recover by itself. Two deadly
#: papers at the head of a queue need 8 restarts of a worker with 96 slots to be identified.
MAX_FAST_FAILURES = 12
#: How often children are checked, in seconds.
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class ChildSpec:
    """What to run: arguments after `referee`, extra environment, where its output goes."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    #: A child that exits with code 0 has finished and is not started again.
    may_end: bool = False


@dataclass
class _SupervisedProcess:
    spec: ChildSpec
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    restart_at: float = 0.0
    done: bool = False


@dataclass
class Supervisor:
    """Runs a set of `referee` commands as children of this process."""

    stop_seconds: float
    _children: list[_SupervisedProcess] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self, specs: Sequence[ChildSpec]) -> None:
        """Start the children and monitor them in a thread."""
        self._children = [_SupervisedProcess(spec) for spec in specs]
        for child in self._children:
            _spawn(child)
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def failed(self) -> list[ChildSpec]:
        """The children that failed too often to be started again; empty if there are none."""
        return [child.spec for child in self._children if child.failures >= MAX_FAST_FAILURES]

    def over(self) -> bool:
        """True if no child runs or will be started again."""
        return all(c.done or c.failures >= MAX_FAST_FAILURES for c in self._children)

    def pids(self) -> dict[str, int]:
        """Process ids of the running children by name."""
        return {c.spec.name: c.process.pid for c in self._children if c.process is not None}

    def stop(self) -> None:
        """Send SIGTERM to all children, and SIGKILL to those that have not drained in time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        living = [child.process for child in self._children if child.process is not None]
        for process in living:
            process.terminate()
        deadline = time.monotonic() + self.stop_seconds
        for process in living:
            _wait_or_kill(process, deadline)

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            for child in self._children:
                self._check_child(child)

    def _check_child(self, child: _SupervisedProcess) -> None:
        if child.process is not None and child.process.poll() is not None:
            _note_end(child)
        waited = time.monotonic() >= child.restart_at and not self._stop.is_set()
        wanted = child.process is None and not child.done
        if wanted and child.failures < MAX_FAST_FAILURES and waited:
            try:
                _spawn(child)
            except OSError as error:
                # No memory or process available: a failed start like any other.
                log.warning("%s does not start: %s", child.spec.name, error)
                _note_failure(child, healthy=False)


def _spawn(child: _SupervisedProcess) -> None:
    child.spec.log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **child.spec.environment, SUPERVISED: str(os.getpid())}
    _health_file(child.spec).unlink(missing_ok=True)
    environment[HEALTH_FILE_VARIABLE] = str(_health_file(child.spec))
    with child.spec.log.open("ab") as log:
        child.process = subprocess.Popen(
            python_command("cli", *child.spec.arguments),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C in the terminal is for the supervisor, which then drains its children.
            start_new_session=True,
        )
    child.started = time.monotonic()


def _health_file(spec: ChildSpec) -> Path:
    """The file that a child creates once it has done work."""
    return spec.log.with_suffix(".proof")


def _note_end(child: _SupervisedProcess) -> None:
    if child.spec.may_end and child.process is not None and child.process.returncode == 0:
        child.done, child.process = True, None
        return
    aged = time.monotonic() - child.started > HEALTHY_SECONDS
    _note_failure(child, healthy=aged or _health_file(child.spec).exists())


def _note_failure(child: _SupervisedProcess, *, healthy: bool) -> None:
    child.failures = 1 if healthy else child.failures + 1
    wait = min(FIRST_BACKOFF_SECONDS * 2 ** (child.failures - 1), LONGEST_BACKOFF_SECONDS)
    child.restart_at = time.monotonic() + wait
    child.process = None


def _wait_or_kill(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(timeout=max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
