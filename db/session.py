"""Connections and transactions, on SQLite and PostgreSQL.

Writing and reading transactions are separate: on SQLite a writing transaction must take its lock
when it begins, or two of them deadlock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic_core import from_json
from sqlalchemy import Connection, Engine, create_engine, event, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine import Dialect as Driver
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.column_types import now
from db.schema import REVISION
from errors import MissingPart, UserError

Dialect = Literal["sqlite", "postgresql"]

#: Seconds that a SQLite connection waits for another process's write. Storing a chunk of papers
#: takes well under one, but a backup or an operator's shell may hold the lock longer.
BUSY_SECONDS = 60

#: Seconds in the pool after which a connection is pinged before use.
PING_AFTER_SECONDS = 1.0

#: Seconds that a thread waits for a connection from the pool.
POOL_SECONDS = 60

#: Notice a dead server or a cut network within about 30 s instead of TCP's two hours.
_POSTGRES_OPTIONS: dict[str, Any] = {
    "connect_timeout": 10,
    "application_name": "referee",
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class DatabaseUnavailable(MissingPart):
    """The database does not answer."""


@dataclass(frozen=True)
class Database:
    """An open database. Threads may share it; a process must fork before it opens one."""

    url: str = field(repr=False)
    engine: Engine = field(repr=False)
    #: The same connection pool, for writing transactions.
    writer: Engine = field(repr=False)
    _write_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def address(self) -> str:
        """The URL without its password."""
        return self.engine.url.render_as_string()

    @property
    def dialect(self) -> Dialect:
        """The database's dialect."""
        return "sqlite" if self.engine.dialect.name == "sqlite" else "postgresql"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A writing transaction, committed at the end, rolled back on an error.

        Raises DatabaseUnavailable when the database is unreachable, locked or full.
        """
        with _translate_errors(), self._serialize_writers(), self.writer.begin() as on:
            yield on

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A reading transaction. Raises DatabaseUnavailable as `write` does."""
        with _translate_errors(), self.engine.begin() as on:
            yield on

    @contextmanager
    def _serialize_writers(self) -> Iterator[None]:
        """Serialize this process's writers: SQLite would have them poll for its single lock."""
        if self.dialect != "sqlite":
            yield
            return
        if not self._write_lock.acquire(timeout=BUSY_SECONDS):
            raise DatabaseUnavailable(f"The database was locked for {BUSY_SECONDS} s.")
        try:
            yield
        finally:
            self._write_lock.release()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_database(url: str, *, max_connections: int = 4) -> Database:
    """Open the database and check that it answers; create the folder of a SQLite file.

    Raises UserError for a URL that names neither SQLite nor PostgreSQL, MissingPart when the
    database cannot be reached or refuses the password.
    """
    parsed = parse_url(url)
    options: dict[str, Any] = {"timeout": BUSY_SECONDS}
    if parsed.get_backend_name() == "sqlite":
        Path(parsed.database or "").parent.mkdir(parents=True, exist_ok=True)
    else:
        options = {k: v for k, v in _POSTGRES_OPTIONS.items() if k not in parsed.query}
    engine = create_engine(
        parsed,
        connect_args=options,
        pool_size=max_connections,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        json_deserializer=from_json,
    )
    if parsed.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prefer_indexes)
        event.listen(engine, "connect", _note_use)
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", partial(_ping_if_idle, engine.dialect))
    writer = engine.execution_options(referee_writes=True)
    database = Database(parsed.render_as_string(hide_password=False), engine, writer)
    try:
        with database.read() as on:
            on.execute(text("SELECT 1"))
    except DatabaseError as error:
        raise MissingPart(f"{parsed.database} cannot be used: {_first_line(error)}.") from error
    return database


def parse_url(url: str) -> URL:
    """Parse a database URL; `postgresql://` selects psycopg. Raises UserError."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UserError(
            "The database URL cannot be read; write sqlite:///FILE or postgresql://USER@HOST/NAME."
        ) from None
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    raise UserError(
        f"{parsed.render_as_string()} is neither a SQLite file nor a PostgreSQL database."
    )


def require_current(database: Database) -> None:
    """Raise MissingPart unless the schema is at this version's revision."""
    with database.read() as on:
        found = schema_revision(on)
    if found is None:
        raise MissingPart("The database is empty: run `referee db upgrade`.")
    if found < REVISION:
        raise MissingPart(
            f"The database has schema {found}, this version needs {REVISION}: "
            "run `referee db upgrade`."
        )
    if found > REVISION:
        raise MissingPart(
            f"The database has schema {found}, newer than this version's {REVISION}: "
            "upgrade Referee on this machine, or run `referee db upgrade` with its newer version."
        )


def schema_revision(on: Connection) -> str | None:
    """The revision of the last migration; None for an empty database."""
    if not on.dialect.has_table(on, "alembic_version"):
        return None
    return on.execute(text("SELECT version_num FROM alembic_version")).scalar()


def database_time(database: Database) -> float:
    """The database's clock in epoch seconds."""
    with database.read() as on:
        return on.scalars(select(now())).one()


#: SQLSTATEs of temporary PostgreSQL failures that are reported as internal errors: read-only after
#: a failover, and timeouts that ended a transaction or connection.
_OUTAGES = {"25006", "25P03", "25P04"}


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except PoolTimeout:
        raise DatabaseUnavailable(
            f"All of this process's database connections were busy for {POOL_SECONDS} s."
        ) from None
    except DBAPIError as error:
        if not _is_outage(error):
            raise
        raise DatabaseUnavailable(f"The database does not answer: {_first_line(error)}") from error


def _is_outage(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(error, (OperationalError, InterfaceError)) or state in _OUTAGES


def _first_line(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Turns off the driver's implicit transactions; `_begin_sqlite` begins them.
    connection.isolation_level = None
    for setting in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        f"busy_timeout = {BUSY_SECONDS * 1000}",
    ):
        connection.execute(f"PRAGMA {setting}")


def _prefer_indexes(connection: Any, _record: Any) -> None:
    """Avoid sequential scans that were planned while a table was empty.

    Foreign key checks get such plans when autovacuum has analysed the empty table.
    """
    connection.execute("SET enable_seqscan = off")
    connection.commit()


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


def _ping_if_idle(dialect: Driver, connection: Any, record: Any, _fairy: Any) -> None:
    """Replace a connection that died in the pool; skip the round trip if it was just used."""
    if time.monotonic() - record.info["used_at"] < PING_AFTER_SECONDS:
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        raise DisconnectionError from error


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("referee_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
