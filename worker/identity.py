"""Which worker a process is: its description in the database, and a name that a restart keeps.

`llama31-8b-gpu0@host`: a restarted worker recognises what its former life held. A second living
worker of the same kind on the same host gets a number.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import count

from db import worker_nodes
from db.session import Database
from dispatch.app import CPU_QUEUE
from dispatch.kinds import ModelUse, fixed_queues
from models.text.reviewer import ReviewerConfig
from settings import Settings
from worker.engines import EnginePool


@dataclass(frozen=True)
class Identity:
    """The description of this worker process in the database. Empty text: none."""

    name: str
    host: str
    pid: int
    gpu: str
    queues: tuple[str, ...]
    base: str
    slots: int
    reviewer: str
    code_version: str
    weights_sha256: str | None = None
    attention: str | None = None
    gpu_memory_gib: float = 0.0

    @property
    def queue(self) -> str:
        """The first queue, by which the worker is named and compared with others."""
        return self.queues[0]


def identify_worker(
    config: ReviewerConfig | None, gpu: str, slots: int, engines: EnginePool, settings: Settings
) -> Identity:
    """Describe this process: a worker of a reviewer's base model, or a cpu worker without one."""
    queues = (config.queue,) if config else (CPU_QUEUE, *fixed_queues())
    host = socket.gethostname()
    versions = _engine_versions(config, engines)
    return Identity(
        name=f"{queues[0].removeprefix('reviews.')}{f'-gpu{gpu}' if gpu else ''}@{host}",
        host=host,
        pid=os.getpid(),
        gpu=gpu,
        queues=queues,
        base=config.base.name if config and config.base else "",
        slots=slots,
        reviewer=config.name if config else "",
        code_version=_code_version(),
        weights_sha256=versions.get("weights_sha256"),
        attention=versions.get("attention"),
        gpu_memory_gib=settings.gpu_memory_gib,
    )


def _engine_versions(config: ReviewerConfig | None, engines: EnginePool) -> Mapping[str, str]:
    """What the engine of a local model runs on; empty for a cpu worker."""
    if config is None:
        return {}
    return engines.engine_for(ModelUse.of(config.sha256, config), False).versions


def _code_version() -> str:
    try:
        return version("referee")
    except PackageNotFoundError:
        return "source"  # run from its folder, uninstalled


def register_worker(database: Database, wanted: Identity) -> Identity:
    """Register the worker under its name, or the first numbered one that is not in use."""
    kind, _, host = wanted.name.partition("@")
    for number in count(1):
        name = f"{kind}{f'.{number}' if number > 1 else ''}@{host}"
        before = _previous_pid(database, name)
        if before is not None and is_running(before):
            continue
        identity = replace(wanted, name=name)
        if worker_nodes.register_worker(database, **asdict(identity), replaced_pid=before):
            return identity
    raise AssertionError("numbers do not end")


def _previous_pid(database: Database, name: str) -> int | None:
    """Process id of the worker that has this name, or had it when it ended."""
    return next((node.pid for node in worker_nodes.listing(database) if node.name == name), None)


def is_running(pid: int) -> bool:
    """Is this a living process of this host, and not the former life of this very one?

    A restarted container has its host's name and often the same process id again.
    """
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
