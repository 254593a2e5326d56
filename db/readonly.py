"""Execution of a single read-only SELECT.

Each database has three safeguards, because analysts paste queries that they find. SQLite: the file
is opened read-only, an authorizer allows only reading, and functions that access files or load code
are refused. PostgreSQL: the transaction is read-only, a cursor accepts only a SELECT, and a query
that names a function which may have side effects is refused.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import URL

from db.session import DatabaseUnavailable, parse_url
from errors import UserError

#: Time limit of a query in seconds: one with a forgotten join must not block workers all night.
QUERY_SECONDS = 60

_ONLY_READS = "`referee sql` runs one SELECT and changes nothing"

#: Virtual-machine instructions of SQLite between two checks of the time limit, under a millisecond.
_STEPS = 10_000

_SQLITE_ALLOWED = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
#: Functions of SQLite, or of extensions in some builds, that access files or run code.
_SQLITE_REFUSED = frozenset(
    {"load_extension", "readfile", "writefile", "edit", "fsdir", "fts3_tokenizer", "eval"}
)
#: Functions that PostgreSQL classes as volatile only because their results change.
_POSTGRES_ALLOWED = frozenset(
    {
        *("random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7"),
        *("clock_timestamp", "timeofday"),
        *("pg_relation_size", "pg_table_size", "pg_indexes_size", "pg_total_relation_size"),
        *("pg_database_size", "pg_tablespace_size"),
    }
)
#: Parts of SQLite's messages when the authorizer, or SQLite itself, refuses a statement.
_SQLITE_REFUSALS = (
    *("not authorized", "authorization denied", "prohibited"),
    *("one statement", "may not be modified"),
)
#: Errors that PostgreSQL raises for anything but a single SELECT. A cursor accepts nothing else, so
#: that a second statement is a syntax error.
_POSTGRES_REFUSALS = (
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.InvalidCursorDefinition,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.SyntaxError,
)


@dataclass(frozen=True)
class QueryResult:
    """A query's column names and rows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def select(url: str, sql: str, *, limit: int | None = None) -> QueryResult:
    """Run one SELECT; return at most `limit` rows.

    Raises UserError for anything but a SELECT that only reads, for one that takes longer than
    QUERY_SECONDS and for one that fails; DatabaseUnavailable when the database does not answer.
    """
    parsed = parse_url(url)
    run = _select_sqlite if parsed.get_backend_name() == "sqlite" else _select_postgres
    return run(parsed, sql.strip().rstrip(";").rstrip(), limit)


def _select_sqlite(url: URL, sql: str, limit: int | None) -> QueryResult:
    path = Path(url.database or "").absolute()
    if not path.exists():
        raise DatabaseUnavailable(f"There is no database at {path}: run `referee db upgrade`.")
    deadline = time.monotonic() + QUERY_SECONDS
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        connection.set_authorizer(_authorize_sqlite)
        connection.set_progress_handler(lambda: int(time.monotonic() > deadline), _STEPS)
        with _sqlite_errors():
            cursor = connection.execute(sql)
            if cursor.description is None:
                raise UserError(f"{_ONLY_READS}.")
            rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit)
            return _rows([column[0] for column in cursor.description], rows)


def _authorize_sqlite(
    action: int, first: str | None, second: str | None, _database: str | None, _view: str | None
) -> int:
    refused = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _SQLITE_REFUSED
    return sqlite3.SQLITE_OK if action in _SQLITE_ALLOWED and not refused else sqlite3.SQLITE_DENY


@contextmanager
def _sqlite_errors() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as error:
        sentence = str(error).rstrip(".")
        if "interrupted" in sentence:
            raise UserError(f"The query took longer than {QUERY_SECONDS} s.") from error
        if any(words in sentence for words in _SQLITE_REFUSALS):
            raise UserError(f"{_ONLY_READS}: {sentence}.") from error
        raise UserError(f"The query failed: {sentence}.") from error


def _select_postgres(url: URL, sql: str, limit: int | None) -> QueryResult:
    try:
        connection = psycopg.connect(
            url.set(drivername="postgresql").render_as_string(hide_password=False),
            connect_timeout=10,
            options=f"-c default_transaction_read_only=on -c statement_timeout={QUERY_SECONDS}s",
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"The database does not answer: {_line(error)}") from error
    with closing(connection), _postgres_errors():
        _refuse_side_effects(connection, sql)
        # A prepared statement is a single statement, and a cursor accepts only a SELECT.
        connection.execute(f"DECLARE asked NO SCROLL CURSOR FOR {sql}".encode(), prepare=True)
        amount = "ALL" if limit is None else str(int(limit))
        cursor = connection.execute(f"FETCH {amount} FROM asked".encode())
        return _rows([column.name for column in cursor.description or ()], cursor.fetchall())


def _refuse_side_effects(connection: psycopg.Connection[Any], sql: str) -> None:
    """Refuse the query if any word in it, even in a string, names a function with side effects.

    Comparing words needs no parser that could be deceived. Names in Unicode escapes would not be
    recognized, so these are refused.
    """
    if re.search(r'u&\s*"', sql, re.IGNORECASE):
        raise UserError(f'{_ONLY_READS}: write names without U&"...".')
    words = {word.lower() for word in re.findall(r"[^\W\d][\w$]*", sql)} - _POSTGRES_ALLOWED
    query = "SELECT proname FROM pg_proc WHERE provolatile = 'v' AND lower(proname) = ANY(%s)"
    found = connection.execute(query, [sorted(words)]).fetchone()
    if found is not None:
        raise UserError(f"{_ONLY_READS}: the function {found[0]} may have side effects.")


@contextmanager
def _postgres_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise UserError(f"The query took longer than {QUERY_SECONDS} s.") from error
    except _POSTGRES_REFUSALS as error:
        raise UserError(f"{_ONLY_READS}: {_line(error)}.") from error
    except psycopg.Error as error:
        raise UserError(f"The query failed: {_line(error)}.") from error


def _line(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _rows(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> QueryResult:
    return QueryResult(columns=tuple(columns), rows=tuple(rows))
