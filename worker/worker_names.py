"""Gives a worker process a name that its next life will have again.

`llama31-8b-gpu0@host`: a restarted worker recognises what its former life held. A second living
worker of the same kind on the same host gets a number.
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from itertools import count

from db import worker_nodes
from db.session import Database
from worker.keeper import Identity


def register_worker(database: Database, wanted: Identity) -> Identity:
    """Enter the worker under its name, or the first numbered one that no living process has."""
    kind, _, host = wanted.name.partition("@")
    for number in count(1):
        name = f"{kind}{f'.{number}' if number > 1 else ''}@{host}"
        before = _previous_pid(database, name)
        if before is not None and _is_running(before):
            continue
        identity = replace(wanted, name=name)
        if worker_nodes.register_worker(database, **asdict(identity), replaced_pid=before):
            return identity
    raise AssertionError("numbers do not end")


def _previous_pid(database: Database, name: str) -> int | None:
    """Process id of the worker that has this name, or had it when it died."""
    return next((node.pid for node in worker_nodes.listing(database) if node.name == name), None)


def _is_running(pid: int) -> bool:
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
