"""Execution of a single read-only SELECT.

Each database has three safeguards, because analysts paste queries that they find. SQLite: the file
is opened read-only, an authorizer allows only reading, and functions that access files or load code
are refused. PostgreSQL: the transaction is read-only, a cursor accepts only a SELECT, and a query
that calls a function which may have side effects is refused. `db.query_process` runs a query where
it can be ended at any moment.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Generator, Iterator, Sequence
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

#: Rows of one page, at most.
PAGE_ROWS = 1000
#: Characters of a page's values, about: a row may hold a paper's text.
PAGE_CHARS = 8 * 2**20
#: Bytes of one value on SQLite; the longest paper is a third of it.
MAX_VALUE_BYTES = 64 * 2**20
#: Rows of the first page from PostgreSQL, whose size tells how many fit into the next.
_FIRST_ROWS = 100

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
    """Run one SELECT; return at most `limit` rows. Raises as `pages` does."""
    columns: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = []
    with closing(pages(url, sql)) as found:
        for page in found:
            columns = page.columns
            rows += page.rows
            if limit is not None and len(rows) >= limit:
                break
    return QueryResult(columns, tuple(rows[:limit]))


def pages(url: str, sql: str) -> Generator[QueryResult, None, None]:
    """Run one SELECT; give its rows a page at a time, at least one page.

    Raises UserError for anything but a SELECT that only reads, for one that takes longer than
    QUERY_SECONDS and for one that fails; DatabaseUnavailable when the database does not answer.
    """
    parsed = parse_url(url)
    run = _sqlite_pages if parsed.get_backend_name() == "sqlite" else _postgres_pages
    return run(parsed, sql.strip().rstrip(";").rstrip())


class _Stopwatch:
    """The time that the database takes: a reader of the rows may take as long as it wants."""

    def __init__(self) -> None:
        self._used = 0.0
        self._since = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._used += time.monotonic() - self._since

    def expired(self) -> bool:
        """Whether the query has taken too long; asked while the watch runs."""
        return self._used + time.monotonic() - self._since > QUERY_SECONDS


def _sqlite_pages(url: URL, sql: str) -> Generator[QueryResult, None, None]:
    path = Path(url.database or "").absolute()
    if not path.exists():
        raise DatabaseUnavailable(f"There is no database at {path}: run `referee db upgrade`.")
    watch = _Stopwatch()
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        connection.set_authorizer(_authorize_sqlite)
        connection.set_progress_handler(lambda: int(watch.expired()), _STEPS)
        with _sqlite_errors(), watch.running():
            cursor = connection.execute(sql)
        if cursor.description is None:
            raise UserError(f"{_ONLY_READS}.")
        columns = tuple(column[0] for column in cursor.description)
        first = True
        while True:
            with _sqlite_errors(), watch.running():
                rows = _sqlite_page(cursor)
            if rows or first:
                yield QueryResult(columns, tuple(rows))
            if not rows:
                return
            first = False


def _sqlite_page(cursor: sqlite3.Cursor) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    n_chars = 0
    for row in cursor:
        rows.append(row)
        n_chars += _size(row)
        if len(rows) == PAGE_ROWS or n_chars > PAGE_CHARS:
            break
    return rows


def _size(row: Sequence[Any]) -> int:
    return sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)


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


def _postgres_pages(url: URL, sql: str) -> Generator[QueryResult, None, None]:
    watch = _Stopwatch()
    try:
        connection = psycopg.connect(
            url.set(drivername="postgresql").render_as_string(hide_password=False),
            connect_timeout=10,
            options=(
                f"-c default_transaction_read_only=on -c statement_timeout={QUERY_SECONDS}s"
                " -c standard_conforming_strings=on"
            ),
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"The database does not answer: {_line(error)}") from error
    with closing(connection):
        with _postgres_errors(), watch.running():
            _refuse_side_effects(connection, sql)
            # A prepared statement is a single statement, and a cursor accepts only a SELECT.
            connection.execute(f"DECLARE asked NO SCROLL CURSOR FOR {sql}".encode(), prepare=True)
        amount, first = _FIRST_ROWS, True
        while True:
            with _postgres_errors(), watch.running():
                cursor = connection.execute(f"FETCH {amount} FROM asked".encode())
                columns = tuple(column.name for column in cursor.description or ())
                rows = cursor.fetchall()
                if watch.expired():
                    raise UserError(f"The query took longer than {QUERY_SECONDS} s.")
            if rows or first:
                yield QueryResult(columns, tuple(rows))
            if len(rows) < amount:
                return
            first = False
            amount = _next_amount(rows)


def _next_amount(rows: Sequence[Sequence[Any]]) -> int:
    """How many rows like these fill a page."""
    chars_a_row = sum(map(_size, rows)) // len(rows) + 1
    return max(1, min(PAGE_ROWS, PAGE_CHARS // chars_a_row))


def _refuse_side_effects(connection: psycopg.Connection[Any], sql: str) -> None:
    """Refuse the query if it calls a function with side effects.

    A function is called by its name before a parenthesis, or after a point: `row.name` calls a
    function of the row's type where it is no column. Functions that take an `internal` argument,
    such as the sampling method `system`, cannot be called in SQL.
    """
    called = called_names(sql) - _POSTGRES_ALLOWED
    query = (
        "SELECT proname FROM pg_proc WHERE provolatile = 'v' AND lower(proname) = ANY(%s)"
        " AND NOT 'internal'::regtype = ANY(proargtypes)"
    )
    found = connection.execute(query, [sorted(called)]).fetchone()
    if found is not None:
        raise UserError(f"{_ONLY_READS}: the function {found[0]} may have side effects.")


#: A lexical element of PostgreSQL, by its documentation (4.1). Only what is written in plain form
#: is taken apart; of anything else every word counts.
_TOKEN = re.compile(
    r"""
    (?P<skipped> \s+ | --[^\r\n]* | /\*(?:[^*/]|\*(?!/)|/(?!\*))*\*/ )
    | (?P<string> '(?:[^']|'')*' )
    | (?P<name> "(?:[^"]|"")+" | [^\W\d][\w$]* )
    | (?P<number> \d[\w.]* )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
#: Forms whose end an escape or a tag decides: E'...', U&'...', $tag$...$tag$, nested comments.
_ESCAPED_FORM = re.compile(r"\\|\$|[uU]&\s*[\"']|/\*(?:(?!\*/).)*/\*", re.DOTALL)
_WORD = re.compile(r"[^\W\d][\w$]*")


def called_names(sql: str) -> frozenset[str]:
    """The names that a query on PostgreSQL may call as functions, in lower case, and maybe more.

    Raises UserError for names in Unicode escapes, which nothing here decodes.
    """
    if re.search(r'u&\s*"', sql, re.IGNORECASE):
        raise UserError(f'{_ONLY_READS}: write names without U&"...".')
    if _ESCAPED_FORM.search(sql):
        return frozenset(word.lower() for word in _WORD.findall(sql))
    tokens = [found for found in _TOKEN.finditer(sql) if found.lastgroup != "skipped"]
    texts = ["", *(token[0] for token in tokens), ""]
    if any(text in ("'", '"') for text in texts):  # a string or a name without an end
        return frozenset(word.lower() for word in _WORD.findall(sql))
    return frozenset(
        token[0].strip('"').lower()
        for place, token in enumerate(tokens, start=1)
        if token.lastgroup == "name" and ("(" in texts[place + 1][:1] or texts[place - 1] == ".")
    )


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
