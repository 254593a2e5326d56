"""Measures this machine in a process of its own, as workers run."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from typing import Any

from db import worker_nodes
from db.session import Database
from errors import MissingPart, UserError
from models.engines.bench_output import ERROR, PROGRESS
from models.text.reviewer import ReviewerConfig
from settings import Settings
from subprocesses import python_command

#: Lines of a process that failed without a sentence of its own, which are shown.
_LAST_LINES = 3


def measure(
    config: ReviewerConfig, *, seconds: float, with_adapter: bool, report: Callable[[str], None]
) -> dict[str, Any]:
    """Run `models.engines.bench`, and pass its progress to `report`; see there for the result.

    UserError for a reviewer without a local model; MissingPart, with the program's own sentence,
    when it fails.
    """
    if config.base is None or config.kind != "local":
        raise UserError(f"Reviewer {config.name} has no local model to measure.")
    arguments = (json.dumps(config.to_json()), str(seconds), "yes" if with_adapter else "no")
    with subprocess.Popen(
        python_command("models.engines.bench", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        said, error = [], ""
        for line in process.stderr:
            said.append(line.rstrip())
            if line.startswith(PROGRESS):
                report(said[-1].removeprefix(PROGRESS))
            if line.startswith(ERROR):
                error = said[-1].removeprefix(ERROR)
        output = process.stdout.read()
    if process.returncode:
        last = " ".join(said[-_LAST_LINES:])
        raise MissingPart(error or f"The measurement ended with code {process.returncode}: {last}")
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def require_idle(database: Database, settings: Settings) -> None:
    """UserError when a worker with a model is running on this machine."""
    for node in worker_nodes.listing(database):
        living = node.age_s <= settings.lease_seconds
        if living and node.host == socket.gethostname() and node.base:
            raise UserError(
                f"Worker {node.name} is running on this machine: stop it first, or measure beside "
                "it with --force."
            )
