"""Connections: settings, errors as sentences, schema revisions, the clock."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy import select, text

from db import migrate, session
from db.column_types import now
from db.schema import REVISION
from db.session import Database, DatabaseUnavailable, open_database, require_current
from errors import MissingPart
from tests.integration.db.content import claim_one, paper, submit


def test_the_folder_of_a_sqlite_file_is_made(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/new/folder/referee.db")
    database.close()
    assert (tmp_path / "new/folder/referee.db").exists()


def test_sqlite_is_set_up_for_many_processes(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/referee.db")
    with database.read() as on:
        settings = {
            name: on.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    database.close()
    busy = session.BUSY_SECONDS * 1000
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 1,
        "foreign_keys": 1,
        "busy_timeout": busy,
    }


def test_now_is_the_database_clock_and_advances_within_a_transaction(database: Database) -> None:
    with database.read() as on:
        first = on.scalar(select(now()))
        later = first
        deadline = time.monotonic() + 5
        while later == first and time.monotonic() < deadline:
            later = on.scalar(select(now()))
    assert first is not None
    assert later is not None
    assert later > first
    assert abs(first - time.time()) < 5


def test_a_process_holds_at_most_its_connections(database_url: str) -> None:
    database = open_database(database_url, max_connections=2)
    with database.read(), database.read():
        assert database.engine.pool.checkedout() == 2  # type: ignore[attr-defined]  # a QueuePool here, typed as any Pool
        assert database.engine.pool.overflow() == 0  # type: ignore[attr-defined]  # as above
    database.close()


def test_error_rolls_back_the_transaction(database: Database) -> None:
    def break_halfway() -> None:
        with database.write() as on:
            on.execute(text("DELETE FROM alembic_version"))
            raise LookupError

    with pytest.raises(LookupError):
        break_halfway()
    require_current(database)


def test_a_server_that_is_not_there_is_a_missing_part() -> None:
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        open_database("postgresql://user:secret@127.0.0.1:1/referee")


def test_a_file_that_is_no_database_is_a_missing_part(tmp_path: Path) -> None:
    (tmp_path / "referee.db").write_text("This is a text file and not a database at all. " * 30)
    with pytest.raises(MissingPart):
        open_database(f"sqlite:///{tmp_path}/referee.db")


def test_locked_file_is_reported_as_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "BUSY_SECONDS", 0.05)
    url = f"sqlite:///{tmp_path}/referee.db"
    database = open_database(url)
    holder = sqlite3.connect(tmp_path / "referee.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="locked"), database.write():
        pass
    holder.rollback()
    holder.close()
    with database.write():
        pass
    database.close()


def test_an_empty_database_asks_for_an_upgrade(empty_url: str) -> None:
    database = open_database(empty_url)
    with pytest.raises(MissingPart, match="referee db upgrade"):
        require_current(database)
    database.close()


@pytest.mark.parametrize(("found", "says"), [("0000", "needs"), ("9999", "newer than")])
def test_another_schema_is_refused_with_what_to_do(
    database: Database, found: str, says: str
) -> None:
    with database.write() as on:
        on.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})
    with pytest.raises(MissingPart, match=f"{found}.*{says}.*referee db upgrade"):
        require_current(database)


def test_a_current_database_is_accepted(database: Database) -> None:
    require_current(database)
    assert migrate.head() == REVISION


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_a_lost_connection_is_replaced(database: Database) -> None:
    submit(database, "b", paper("a"))
    with pytest.raises(DatabaseUnavailable), database.read() as on:
        on.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert claim_one(database).custom_id == "a"


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_a_connection_that_died_in_the_pool_is_replaced_unseen(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(database, "b", paper("a"))
    monkeypatch.setattr(session, "PING_AFTER_SECONDS", 0.0)
    with database.read() as on:
        pooled = on.scalar(text("SELECT pg_backend_pid()"))
    other = open_database(database.url)
    with other.write() as on:
        on.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pooled})
    other.close()
    assert claim_one(database).custom_id == "a"
