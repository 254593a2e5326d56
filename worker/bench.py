"""Measures this machine in a process of its own, with the settings of workers."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from tempfile import TemporaryFile
from typing import Any

from db import worker_nodes
from db.session import Database
from errors import MissingPart, UserError
from models.text.reviewer import ReviewerConfig
from models.weights import store
from settings import Settings
from subprocesses import python_command
from worker.gpu_sharing import gpu_indices

#: Lines of a process that failed without a sentence of its own, which are shown.
_LAST_LINES = 3


def measure(
    config: ReviewerConfig,
    settings: Settings,
    *,
    seconds: float,
    with_adapter: bool,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Run `models.engines.bench`, and pass its progress to `report`; see there for the result.

    UserError for a reviewer without a local model; MissingPart, with the program's own sentence,
    when it fails.
    """
    if config.base is None or config.kind != "local":
        raise UserError(f"Reviewer {config.name} has no local model to measure.")
    if not gpu_indices():
        # Random weights of a large base's shape are for GPUs: refused before torch is imported.
        store.resolve(config.base, settings.home)
    arguments = (json.dumps(config.to_json()), str(seconds), "yes" if with_adapter else "no")
    command = python_command("models.engines.bench", *arguments)
    found: dict[str, Any] = {}
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            message = _message(line)
            if "progress" in message:
                report(message["progress"])
            found |= message
        code = process.wait()
        errors.seek(0)
        last_lines = " ".join(errors.read().splitlines()[-_LAST_LINES:])
    if "result" not in found:
        unexpected = f"The measurement ended with code {code}: {last_lines}"
        raise MissingPart(found.get("error", unexpected))
    result: dict[str, Any] = found["result"]
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


def _message(line: str) -> dict[str, Any]:
    """A line of the program; empty for what a library prints."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
