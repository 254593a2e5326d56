"""Everything on one machine: database, broker and workers."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from db import migrate, worker_nodes
from db.session import Database, open_database
from dispatch.app import CPU_QUEUE
from dispatch.broker import Broker, serve
from errors import MissingPart, UserError
from models.text.reviewer import ReviewerConfig
from models.weights import store
from settings import Settings
from worker.gpu_sharing import gpu_indices
from worker.supervisor import ChildSpec, Supervisor

#: Seconds beyond the drain time that a worker gets to end before it is killed: a cancelled paper
#: still finishes its prefill, which takes 20 s on a slow CPU.
STOP_MARGIN_SECONDS = 40.0
#: How often a starting stack is checked, in seconds.
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Stack:
    """What runs while `referee up` runs."""

    settings: Settings
    broker: Broker
    database: Database
    supervisor: Supervisor

    def check(self) -> None:
        """Raise MissingPart if a worker cannot be kept running."""
        for broken in self.supervisor.failed():
            raise MissingPart(failure_message(broken))

    def wait_until_ready(self, queue: str) -> None:
        """Block until a worker that serves a queue has registered."""
        own = set(self.supervisor.pids().values())
        while not any(
            queue in n.queues and n.pid in own for n in worker_nodes.listing(self.database)
        ):
            self.check()
            time.sleep(_POLL_SECONDS)
            own = set(self.supervisor.pids().values())


@contextmanager
def stack(
    settings: Settings, reviewer: ReviewerConfig, *, slots: int | None = None
) -> Iterator[Stack]:
    """Run database, broker and workers while the block runs."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with _only_one(settings.home):
        if reviewer.base is not None and not settings.engine:
            store.resolve(reviewer.base, settings.home)  # fail now, not in five workers
        migrate.upgrade(settings.database)
        with serve(settings) as broker:
            yield from _run(settings, broker, reviewer, slots)


def _run(
    settings: Settings, broker: Broker, reviewer: ReviewerConfig, slots: int | None
) -> Iterator[Stack]:
    database = open_database(settings.database)
    supervisor = Supervisor(stop_seconds=settings.drain_seconds + STOP_MARGIN_SECONDS)
    supervisor.start(_specs(settings, broker, reviewer, slots))
    try:
        yield Stack(settings, broker, database, supervisor)
    finally:
        supervisor.stop()
        database.close()


def _specs(
    settings: Settings, broker: Broker, reviewer: ReviewerConfig, slots: int | None
) -> list[ChildSpec]:
    """A worker for each GPU, or one on the CPU, and a cpu worker for endpoints."""
    shared = {"REFEREE_HOME": str(settings.home), "REFEREE_BROKER_URL": broker.url}
    logs = settings.home / "logs"
    specs = [ChildSpec("cpu", ("worker", "--cpu"), shared, logs / "worker-cpu.log")]
    if reviewer.queue == CPU_QUEUE:
        return specs
    arguments = ("worker", "--reviewer", reviewer.name, "--slots", str(slots or "auto"))
    gpus = gpu_indices()
    if not gpus:
        return [*specs, ChildSpec("local", arguments, shared, logs / "worker-local.log")]
    return [*specs, *_pinned(gpus, arguments, shared, logs)]


def gpu_specs(
    gpus: list[str],
    reviewer: str,
    slots: str,
    weights: str | None,
    exit_when_idle: float | None,
    settings: Settings,
) -> list[ChildSpec]:
    """One worker process for each of the named GPUs, with this process's own settings."""
    chosen = ("--weights", weights) if weights else ()
    ending = () if exit_when_idle is None else ("--exit-when-idle", f"{exit_when_idle}s")
    arguments = ("worker", "--reviewer", reviewer, "--slots", slots, *chosen, *ending)
    specs = _pinned(gpus, arguments, {}, settings.home / "logs")
    return [replace(spec, may_end=exit_when_idle is not None) for spec in specs]


def _pinned(
    gpus: list[str], arguments: tuple[str, ...], environment: dict[str, str], logs: Path
) -> list[ChildSpec]:
    """CUDA_VISIBLE_DEVICES is set before the child's Python starts, so before torch is imported."""
    return [
        ChildSpec(
            f"gpu{gpu}",
            arguments,
            environment | {"CUDA_VISIBLE_DEVICES": gpu},
            logs / f"worker-gpu{gpu}.log",
        )
        for gpu in gpus
    ]


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Two stacks with the same home would stop each other's broker."""
    with (home / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"`referee up` already runs on {home}.") from error
        yield


def failure_message(child: ChildSpec) -> str:
    """A sentence on a child that is not started again, with the last line of its output."""
    return f"Worker {child.name} does not stay up: {_last_line(child.log)}"


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f"{lines[-1] if lines else 'it printed nothing'} (see {log})"
