"""Worker processes on two "hosts", restarted when they end as a service manager would."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from subprocesses import python_command
from testing import ROOT

#: Seconds before a worker that ended is started again.
RESTART_SECONDS = 1.0
#: Seconds in which a worker may still be importing: SIGTERM then ends it like any program.
START_SECONDS = 15.0
_POLL_SECONDS = 0.1


@dataclass
class WorkerProcess:
    """One worker process."""

    host: str
    process: subprocess.Popen[bytes]
    #: Exit codes that an injected fault may cause; empty without a fault.
    expected: tuple[int, ...] = ()
    since: float = field(default_factory=time.monotonic)

    @property
    def starts(self) -> bool:
        """Whether it may still be starting."""
        return time.monotonic() - self.since < START_SECONDS

    @property
    def pid(self) -> int:
        return self.process.pid


@dataclass(frozen=True)
class WorkerExit:
    """A worker that ended without an injected fault; a negative code is a signal."""

    pid: int
    code: int


@dataclass
class WorkerFleet:
    """Keeps a number of workers running until it is stopped."""

    #: Environment by host.
    hosts: Mapping[str, Mapping[str, str]]
    workers_a_host: int
    logs: Path
    #: What each of them runs, after `referee`.
    command: tuple[str, ...] = ("worker", "--reviewer", "demo-7")
    exits: list[WorkerExit] = field(default_factory=list)
    _workers: list[WorkerProcess] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start all workers and watch over them."""
        self.logs.mkdir(parents=True, exist_ok=True)
        for host in self.hosts:
            self._workers += [self._spawn(host) for _ in range(self.workers_a_host)]
        self._thread = threading.Thread(target=self._watch, name="fleet", daemon=True)
        self._thread.start()

    def living(self, host: str | None = None) -> list[WorkerProcess]:
        """The running workers without an injected fault."""
        with self._lock:
            return [
                worker
                for worker in self._workers
                if worker.process.poll() is None
                and not worker.expected
                and host in (None, worker.host)
            ]

    def kill(self, worker: WorkerProcess) -> None:
        """kill -9."""
        with self._lock:
            worker.expected = (-signal.SIGKILL,)
        worker.process.kill()
        worker.process.wait()

    def drain(self, worker: WorkerProcess) -> None:
        """Send SIGTERM without waiting."""
        with self._lock:
            # -SIGTERM when it is still starting and holds no jobs.
            worker.expected = (0, -signal.SIGTERM)
        worker.process.terminate()

    def stop(self, seconds: float) -> list[int]:
        """Send SIGTERM to all; returns their exit codes, -9 for one that did not end in time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        young = [worker for worker in self._workers if worker.starts]
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + seconds
        codes = [(worker, _end(worker.process, deadline)) for worker in self._workers]
        return [0 if code == -signal.SIGTERM and w in young else code for w, code in codes]

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            with self._lock:
                ended = [w for w in self._workers if w.process.poll() is not None]
            for worker in ended:
                self._replace(worker)

    def _replace(self, worker: WorkerProcess) -> None:
        # A worker that drains may still be killed by a deadly paper.
        if worker.process.returncode not in worker.expected:
            self.exits.append(WorkerExit(worker.pid, worker.process.returncode))
        if self._stop.wait(RESTART_SECONDS):
            return
        with self._lock:
            self._workers[self._workers.index(worker)] = self._spawn(worker.host)

    def _spawn(self, host: str) -> WorkerProcess:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("REFEREE_")}
        with (self.logs / f"worker-{host}.log").open("ab") as log:
            process = subprocess.Popen(
                python_command("cli", *self.command),
                env={**clean, "PYTHONPATH": str(ROOT), **self.hosts[host]},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return WorkerProcess(host, process)


def freeze(worker: WorkerProcess) -> None:
    """SIGSTOP."""
    worker.process.send_signal(signal.SIGSTOP)


def thaw(worker: WorkerProcess) -> None:
    """SIGCONT."""
    worker.process.send_signal(signal.SIGCONT)


def _end(process: subprocess.Popen[bytes], deadline: float) -> int:
    try:
        return process.wait(timeout=max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
