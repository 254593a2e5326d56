"""A container's health check: has a worker of this host shown a sign of life?

Run as `python -P -m worker.health`; exit 0 when one has within a lease, 1 when none has.
"""

from __future__ import annotations

import socket
import sys

from db import worker_nodes
from db.session import open_database
from settings import get_settings


def healthy() -> bool:
    """True when a worker on this host signed within the last lease."""
    settings = get_settings()
    listed = worker_nodes.listing(open_database(settings.database))
    here = [node for node in listed if node.host == socket.gethostname()]
    return any(node.age_s < settings.lease_seconds for node in here)


if __name__ == "__main__":
    sys.exit(0 if healthy() else 1)
