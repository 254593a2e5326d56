"""A Referee installation for one test: the real command line and real processes on one home.

Only the engine may be scripted, where a test chooses so.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, get_args

import psutil
from sqlalchemy import func, select

from db.schema import BatchRow, Job, JobEvent, JobState
from db.session import Database, open_database
from db.worker_nodes import listing
from subprocesses import python_command
from testing import ROOT
from tests.command_server import RunningCommand, command_server

Process = subprocess.Popen[bytes] | RunningCommand
Streams = tuple[IO[bytes], IO[bytes], IO[bytes]]
#: Short times, so that a lease expires within a test.
FAST = {
    "REFEREE_LEASE_SECONDS": "3",
    "REFEREE_RECONCILE_SECONDS": "0.5",
    "REFEREE_RETRY_SECONDS": "0.1",
    "REFEREE_DRAIN_SECONDS": "2",
}
SCRIPTED = {"REFEREE_ENGINE": "testing.scripted_engine:make"}


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for a condition to be true and return its value; fail after a deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"still not so after {seconds} s: {condition}")


@dataclass
class Site:
    """One home and the environment of every command run on it."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    #: Folder of the code that runs: this project, or an earlier version of it.
    root: Path = ROOT

    def __post_init__(self) -> None:
        # A copy, so that a test can change it without affecting other sites.
        self.environment = dict(self.environment)

    def run(
        self, *arguments: str, timeout: float = 120, stdin: str = "", fresh: bool = False
    ) -> Finished:
        """Run a command to its end, in a process of its own: a fork, or a fresh interpreter."""
        with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
            given.write(stdin.encode())
            given.seek(0)
            process = self._begin(arguments, {}, (given, out, err), fresh)
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
            done = Finished(code, *(_read(stream) for stream in (out, err)))
        assert "Traceback" not in done.err, done.err
        return done

    def json(self, *arguments: str, code: int = 0, fresh: bool = False) -> Any:
        """Run a command with --json and read its one document."""
        done = self.run(*arguments, "--json", fresh=fresh)
        assert done.code == code, done
        return json.loads(done.out)

    def start(self, *arguments: str, fresh: bool = True, **more: str) -> Process:
        """Start a command in the background, with more in its environment; its output goes to a
        file in the home."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / f"{arguments[0]}.out").open("ab") as out, open(os.devnull, "rb") as none:
            return self._begin(arguments, more, (none, out, out), fresh)

    def _begin(
        self, arguments: tuple[str, ...], more: dict[str, str], streams: Streams, fresh: bool
    ) -> Process:
        environment = self._env() | more
        if not fresh and self.root == ROOT:
            return command_server(arguments[0]).start(arguments, environment, streams)
        return subprocess.Popen(
            python_command("cli", *arguments),
            env=environment,
            cwd=self.root,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            start_new_session=True,
        )

    @contextmanager
    def up(self, reviewer: str = "demo-7") -> Iterator[Process]:
        """Run `referee up` until the block ends; ready when its workers have signed on."""
        process = self.start("up", "--reviewer", reviewer, fresh=False)
        try:
            wait_until(lambda: self._is_up(process))
            with self.database() as database:
                wait_until(lambda: _signed_on(database, process))
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(timeout=90)

    def _is_up(self, up: Process) -> bool:
        assert up.poll() is None, self.output("up")
        return "Running." in self.output("up")  # until then it creates the database

    def workers_of(self, up: Process) -> list[int]:
        """Process ids of the signed-on workers that serve local models under this `up`."""
        with self.database() as database:
            return _signed_on(database, up)

    def output(self, command: str) -> str:
        """Output of a background command so far."""
        return (self.home / f"{command}.out").read_text()

    def counts(self, batch: str) -> dict[str, int]:
        """Jobs of a batch by state, read from the database without starting a command."""
        with self.database() as database:
            return _counts(database, batch)

    def wait_for(
        self, batch: str, condition: Callable[[dict[str, int]], Any], seconds: float = 60.0
    ) -> None:
        """Wait until a condition on a batch's counts holds; fail after a deadline."""
        with self.database() as database:
            wait_until(lambda: condition(_counts(database, batch)), seconds)

    def exported(self, batch: str) -> list[dict[str, Any]]:
        """The lines of a batch's JSONL export."""
        done = self.run("export", batch, "--format", "jsonl")
        assert done.code == 0, done
        return [json.loads(line) for line in done.out.splitlines()]

    def events(self, kind: str) -> int:
        """How many job events of a kind the database holds."""
        with self.database() as database, database.read() as on:
            return on.scalar(select(func.count()).where(JobEvent.kind == kind)) or 0

    @contextmanager
    def database(self) -> Iterator[Database]:
        """The site's own database."""
        url = self.environment.get("REFEREE_DATABASE_URL") or f"sqlite:///{self.home}/referee.db"
        database = open_database(url, max_connections=1)
        try:
            yield database
        finally:
            database.close()

    def _env(self) -> dict[str, str]:
        base = {k: v for k, v in os.environ.items() if not k.startswith("REFEREE_")}
        mine = {"REFEREE_HOME": str(self.home), "PYTHONPATH": str(self.root), "HF_HUB_OFFLINE": "1"}
        mine["REFEREE_CACHE_WEIGHTS"] = "false"  # 160 MB a home
        return base | mine | self.environment


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str


def _counts(database: Database, batch: str) -> dict[str, int]:
    of_batch = select(Job.state, func.count()).join(BatchRow, Job.batch_id == BatchRow.id)
    with database.read() as on:
        rows = on.execute(of_batch.where(BatchRow.name == batch).group_by(Job.state))
        counts = {str(state): n for state, n in rows}
    return dict.fromkeys(get_args(JobState), 0) | counts | {"total": sum(counts.values())}


def _signed_on(database: Database, up: Process) -> list[int]:
    """Process ids of the local models' workers that are children of `up`."""
    pids = [node.pid for node in listing(database) if node.queue != "cpu"]
    return [pid for pid in pids if _parent(pid) == up.pid]


def _parent(pid: int) -> int | None:
    with suppress(psutil.NoSuchProcess):
        return int(psutil.Process(pid).ppid())
    return None


def _read(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode()


def write_papers(folder: Path, n: int, text: str = "") -> Path:
    """Write n different text papers, paper-000.txt and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        body = f"A Study of Subject {i}\n\nAbstract\nWe study subject {i}.\n\n{text}\n"
        (folder / f"paper-{i:03}.txt").write_text(body)
    return folder
