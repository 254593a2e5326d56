"""Refuses SQLite when workers run on more than one machine.

SQLite's locks do not work across a network, and a worker on another machine would use a database of
its own without notice.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from db import worker_nodes
from db.session import Database
from errors import UserError

_ADVICE = "set REFEREE_DATABASE_URL to a PostgreSQL URL on every host"


def require_single_host(database: Database, broker_url: str, *, lease_seconds: float) -> None:
    """Raise UserError if the database is SQLite and the broker or a worker is on another host."""
    if database.dialect != "sqlite":
        return
    host = urlsplit(broker_url).hostname
    if host is not None and not _is_local(host):
        raise UserError(
            f"The broker is on {host} and the database is a SQLite file, which serves one machine "
            f"only: {_ADVICE}."
        )
    here = socket.gethostname()
    living = (node for node in worker_nodes.listing(database) if node.age_s < lease_seconds)
    elsewhere = sorted({node.host for node in living} - {here})
    if elsewhere:
        raise UserError(
            f"Workers on {', '.join(elsewhere)} use this SQLite file, which serves one machine "
            f"only: {_ADVICE}."
        )


def _is_local(host: str) -> bool:
    """Whether a host name is this machine's; the broker check reports unknown names."""
    try:
        addresses = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return True
    return any(_can_bind(family, address) for family, _, _, _, address in addresses)


def _can_bind(family: int, address: tuple[object, ...]) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(address)
        except OSError:
            return False
    return True
