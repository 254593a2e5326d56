"""Real servers and real worker processes with an engine that only waits, for measurements.

What is measured is everything around a model: database, broker, leases, commits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from db import migrate, worker_nodes
from db.session import Database, open_database
from settings import Settings
from subprocesses import python_command
from testing import ROOT
from testing.servers import Postgres, Valkey, postgres

DatabaseKind = Literal["sqlite", "postgresql"]

#: Longest time that workers may take to start on a busy machine, in seconds.
_START_SECONDS = 600.0


@dataclass
class ScriptedFleet:
    """Broker, database, and the workers that were started on them."""

    home: Path
    broker: Valkey
    server: Postgres | None
    database: Database
    environment: dict[str, str]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """The settings of a command on this installation."""
        return Settings(home=self.home, database_url=self.database.url, broker_url=self.broker.url)

    def cpu_seconds(self) -> float:
        """CPU time that the workers have used so far."""
        return sum(sum(psutil.Process(w.pid).cpu_times()[:2]) for w in self.workers)

    @contextmanager
    def working(self, workers: int, slots: int, seconds: float) -> Iterator[None]:
        """Run workers until the block ends; a paper takes `seconds`."""
        scripted = {
            "REFEREE_ENGINE": "testing.scripted_engine:make",
            "SCRIPTED_SLOTS": str(slots),
            "SCRIPTED_SECONDS": str(seconds),
        }
        command = python_command("cli", "worker", "--reviewer", "demo-7")
        with (self.home / "workers.log").open("ab") as log:
            self.workers = [
                subprocess.Popen(
                    command,
                    env=os.environ | self.environment | scripted,
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                )
                for _ in range(workers)
            ]
        try:
            wait_for(lambda: len(worker_nodes.listing(self.database)) >= workers, _START_SECONDS)
            yield
        finally:
            for worker in self.workers:
                worker.terminate()
            for worker in self.workers:
                worker.wait(timeout=120)


@contextmanager
def fleet(kind: DatabaseKind) -> Iterator[ScriptedFleet]:
    """Servers and a migrated database in a temporary folder."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="referee-scale-")))
        broker = Valkey(home / "broker")
        stack.callback(broker.stop)
        server = stack.enter_context(postgres()) if kind == "postgresql" else None
        url = server.url if server is not None else f"sqlite:///{home / 'referee.db'}"
        migrate.upgrade(url)
        database = open_database(url)
        stack.callback(database.close)
        environment = {
            "REFEREE_HOME": str(home),
            "REFEREE_BROKER_URL": broker.url,
            "REFEREE_DATABASE_URL": url,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        yield ScriptedFleet(home, broker, server, database, environment)


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition; exits after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"Still not so after {seconds:.0f} s.")
        time.sleep(0.2)
