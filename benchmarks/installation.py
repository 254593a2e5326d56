"""A temporary installation for measurements: its own home, a real broker, commands and workers.

Runs from the source folder, without an installed package.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import text

from benchmarks.llama_shape import Papers
from db import worker_nodes
from db.session import open_database
from models.engines.steady_state import ANSWER_TOKENS, draw_length
from models.text import reviewer
from models.text.reviewer import MAX_PROMPT_TOKENS
from models.weights.random_weights import LLAMA31_8B, write_random_llama
from models.weights.store import load_tokenizer
from subprocesses import python_command
from testing import ROOT
from testing.servers import Valkey
from testing.tokenizers import tokenizer_file

#: The reviewer of every measurement.
REVIEWER = "bench"
#: Seconds that a worker may take to start, weights quantised and graphs recorded.
START_SECONDS = 400.0
#: Seconds that a batch may take.
BATCH_SECONDS = 550.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Shape:
    """Sizes of the model, the papers and the answers."""

    #: A tiny model with byte tokens, for trying a measurement on a CPU.
    tiny: bool
    #: Of the papers' lengths.
    scale: float = 1.0
    answer_tokens: int = ANSWER_TOKENS

    @classmethod
    def of(cls, options: argparse.Namespace) -> Shape:
        """The shape for the options of `add_options`."""
        if options.tiny:
            return cls(tiny=True, scale=0.05, answer_tokens=600)
        return cls(False, options.scale, options.answer)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the longest prompt; system prompt and template are always whole."""
        return 2_000 if self.tiny else max(800, int(MAX_PROMPT_TOKENS * self.scale))


@dataclass(frozen=True)
class Rate:
    """Duration of a batch by the database's clock."""

    papers: int
    seconds: float
    papers_per_hour: float
    reviews: int
    claims: int

    @property
    def once_each(self) -> bool:
        """Whether every paper was claimed once and reviewed once."""
        return self.reviews == self.claims == self.papers


@dataclass(frozen=True)
class Installation:
    """One home, and the environment of every command that runs on it."""

    scratch: Path
    shape: Shape
    environment: dict[str, str]

    @property
    def home(self) -> Path:
        """REFEREE_HOME of every command."""
        return self.scratch / "home"

    @property
    def model(self) -> Path:
        """The folder of the random weights."""
        return self.scratch / "model"

    def papers(self, name: str, count: int, first: int = 0) -> Path:
        """Write `count` papers of a conference's lengths as JSONL, numbered from `first`."""
        path = self.scratch / f"{name}.jsonl"
        text_of = _bytes if self.shape.tiny else _words(self.model)
        with path.open("w") as file:
            for number in range(first, first + count):
                body = text_of(number, self.shape.scale)
                name = f"paper-{number:04}"
                line = {"id": name, "title": name, "abstract": name, "text": body}
                file.write(json.dumps(line) + "\n")
        return path

    def run(self, *arguments: str) -> str:
        """Run a command to its end; returns what it printed. RuntimeError when it fails."""
        done = subprocess.run(
            python_command("cli", *arguments),
            env=self._env(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"referee {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def python(self, module: str, *arguments: str) -> Any:
        """Run a module that prints one JSON document as its last line."""
        command = python_command(module, *arguments)
        done = subprocess.run(
            command,
            env=self._env(),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return json.loads(done.stdout.strip().splitlines()[-1])

    @contextmanager
    def worker(self, gpus: str, *options: str) -> Iterator[float]:
        """Run `referee worker` until the block ends; gives the seconds until all were ready."""
        chosen = ("--gpus", gpus) if gpus else ()
        log = self.home / "worker.out"
        started = time.monotonic()
        with log.open("ab") as out:
            process = subprocess.Popen(
                python_command("cli", "worker", "--reviewer", REVIEWER, *chosen, *options),
                env=self._env(),
                cwd=ROOT,
                stdout=out,
                stderr=out,
            )
        try:
            wanted = len(gpus.split(",")) if gpus else 1
            wait(lambda: self._n_workers() >= wanted, START_SECONDS, process)
            yield time.monotonic() - started
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()

    def submit(self, file: Path, batch: str, *options: str) -> None:
        """Submit a JSONL file."""
        self.run("submit", str(file), "--batch", batch, "--reviewer", REVIEWER, *options)

    def finish(self, *batches: str) -> None:
        """Wait until no paper of these batches is left."""
        names = ", ".join(f"'{name}'" for name in batches)
        query = (
            "SELECT count(*) FROM job JOIN batch ON batch.id = job.batch_id "
            f"WHERE job.state IN ('queued', 'running') AND batch.name IN ({names})"
        )
        wait(lambda: self.rows(query)[0][0] == 0, BATCH_SECONDS)

    def rate(self, *batches: str) -> Rate:
        """From the first claim to the last commit of these batches."""
        names = ", ".join(f"'{name}'" for name in batches)
        jobs = f"FROM job JOIN batch ON batch.id = job.batch_id WHERE batch.name IN ({names})"
        ((papers, seconds),) = self.rows(
            f"SELECT count(*), max(job.finished_at) - min(job.started_at) {jobs}"
        )
        ids = f"(SELECT job.id {jobs})"
        ((reviews,),) = self.rows(f"SELECT count(*) FROM review WHERE job_id IN {ids}")
        ((claims,),) = self.rows(
            f"SELECT count(*) FROM job_event WHERE kind = 'claimed' AND job_id IN {ids}"
        )
        return Rate(papers, seconds, 3600 * papers / seconds, reviews, claims)

    def rows(self, query: str) -> Sequence[Any]:
        """Rows of a query on the installation's database."""
        database = open_database(self.database_url, max_connections=1)
        try:
            with database.read() as on:
                return on.execute(text(query)).all()
        finally:
            database.close()

    @property
    def database_url(self) -> str:
        """URL of its database."""
        return self.environment.get("REFEREE_DATABASE_URL") or f"sqlite:///{self.home}/referee.db"

    def _n_workers(self) -> int:
        database = open_database(self.database_url, max_connections=1)
        try:
            return sum(node.queue != "cpu" for node in worker_nodes.listing(database))
        finally:
            database.close()

    def _env(self) -> dict[str, str]:
        base = {k: v for k, v in os.environ.items() if not k.startswith("REFEREE_")}
        path = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        return base | {"REFEREE_HOME": str(self.home), "PYTHONPATH": path} | self.environment


def wait(
    condition: Callable[[], bool], seconds: float, process: subprocess.Popen[bytes] | None = None
) -> None:
    """Wait for a condition. RuntimeError after the deadline, or when the process ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the worker ended with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"not so after {seconds:.0f} s")
        time.sleep(_POLL_SECONDS)


@contextmanager
def installation(scratch: Path, options: argparse.Namespace) -> Iterator[Installation]:
    """A home with a model of random weights and a reviewer of it, and a running broker."""
    shape, database_url = Shape.of(options), options.database_url
    _write_model(scratch, options.tokenizer, shape)
    broker = Valkey(scratch / "valkey")
    environment = {"REFEREE_BROKER_URL": broker.url}
    if database_url:
        environment["REFEREE_DATABASE_URL"] = database_url
    made = Installation(scratch, shape, environment)
    made.home.mkdir()
    try:
        made.run("db", "upgrade")
        made.run("reviewer", "add", str(_reviewer_file(made)))
        yield made
    finally:
        broker.stop()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all measurements of an installation share."""
    parser.add_argument("--slots", type=int)
    parser.add_argument("--scale", type=float, default=1.0, help="of the papers' lengths")
    parser.add_argument("--answer", type=int, default=ANSWER_TOKENS)
    parser.add_argument("--tokenizer", type=Path, help="Llama 3's tokenizer.json, or .json.xz")
    parser.add_argument("--database-url", default="", help="a PostgreSQL; default: SQLite")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try it on a CPU")
    parser.add_argument("--json", type=Path)


def _write_model(scratch: Path, tokenizer: Path | None, shape: Shape) -> None:
    """Write random weights in a subprocess, so that this process allocates no GPU memory."""
    folder = scratch / "model"
    if shape.tiny:
        from testing.small_models import write_tiny_llama

        write_tiny_llama(folder, "llama31")
        return
    arguments = (folder, tokenizer_file(tokenizer, scratch).read_bytes(), LLAMA31_8B)
    writer = get_context("spawn").Process(target=write_random_llama, args=arguments)
    writer.start()
    writer.join()
    if writer.exitcode:
        raise RuntimeError("the random weights were not written")


def _reviewer_file(site: Installation) -> Path:
    """The recipe's reviewer on the random model, greedy; its gate passes any text."""
    shipped = reviewer.load(reviewer.builtin()["llama31-7"])
    assert shipped.base is not None
    base = replace(shipped.base, name="bench-llama", hub=str(site.model))
    config = replace(
        shipped,
        name=REVIEWER,
        base=base,
        temperature=0.0,
        max_prompt_tokens=site.shape.prompt_tokens,
        max_new_tokens=site.shape.answer_tokens,
        gate=replace(shipped.gate, fatal=()),
    )
    path = site.scratch / f"{REVIEWER}.yaml"
    path.write_text(yaml.safe_dump(config.to_json()))
    return path


def _words(model: Path) -> Callable[[int, float], str]:
    """Text of paper `number`, made of words of one token each."""
    papers = Papers.of(load_tokenizer(model))
    return lambda number, scale: papers.request(number, scale=scale).text


def _bytes(number: int, scale: float) -> str:
    """Text of paper `number` for a tokenizer of bytes."""
    length, draw = draw_length(number, scale)
    letters = "".join(draw.choices("etaoin shrdlu", k=length))
    return f"{number} {letters}"
