"""Health check of a container: has a worker on this host sent a heartbeat recently?

Run as `python -P -m worker.health`; exits with 0 if one has within a lease, else with 1.
"""

from __future__ import annotations

import socket
import sys

from db import worker_nodes
from db.session import open_database
from settings import get_settings


def healthy() -> bool:
    """True if a worker on this host has sent a heartbeat within the last lease."""
    settings = get_settings()
    listed = worker_nodes.listing(open_database(settings.database))
    here = [node for node in listed if node.host == socket.gethostname()]
    return any(node.age_s < settings.lease_seconds for node in here)


if __name__ == "__main__":
    sys.exit(0 if healthy() else 1)
