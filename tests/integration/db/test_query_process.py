"""A query of `referee sql` in its own process: pages, limits, and values that JSON has."""

from __future__ import annotations

import json
import time

import pytest

from db import query_process, readonly
from db.query_process import run_query
from db.readonly import PAGE_ROWS, QueryResult, called_names, pages
from db.session import Database, DatabaseUnavailable
from errors import UserError

ENDLESS_CALL = (
    "SELECT instr(replace(hex(zeroblob(4000000)), '0', 'a'),"
    " replace(hex(zeroblob(2000000)), '0', 'a') || 'b')"
)
COUNT = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {}) "


def test_rows_come_in_pages(database: Database, database_url: str) -> None:
    found = list(run_query(database_url, COUNT.format(2500) + "SELECT x, 'row ' || x AS t FROM n"))
    assert [row for page in found for row in page.rows] == [(n, f"row {n}") for n in range(1, 2501)]
    assert all(len(page.rows) <= PAGE_ROWS for page in found)
    assert {page.columns for page in found} == {("x", "t")}
    assert list(pages(database_url, "SELECT 1 AS a WHERE 1 = 0")) == [QueryResult(("a",), ())]


def test_long_rows_make_short_pages(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readonly, "PAGE_CHARS", 10_000)
    monkeypatch.setattr(readonly, "_FIRST_ROWS", 10)
    long = "replace('          ', ' ', 'abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz') AS t"
    sizes = [
        len(page.rows) for page in pages(database_url, COUNT.format(200) + f"SELECT {long} FROM n")
    ]
    assert sum(sizes) == 200
    assert max(sizes) <= 20


def test_results_without_an_end_are_not_collected(database: Database, database_url: str) -> None:
    found = run_query(database_url, COUNT.format(10**12) + "SELECT x FROM n")
    if database.dialect == "postgresql":
        found = run_query(database_url, "SELECT generate_series(1, 1000000000000) AS x")
    assert next(found).rows[0] == (1,)
    assert next(found).rows
    found.close()


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_a_function_that_does_not_end_is_ended(database: Database, database_url: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UserError, match="took longer than 1 s"):
        list(run_query(database_url, ENDLESS_CALL, seconds=1))
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_memory_is_limited(database: Database, database_url: str) -> None:
    with pytest.raises(UserError, match="too big"):
        list(run_query(database_url, "SELECT hex(zeroblob(40000000))"))
    many = ", ".join(["zeroblob(60000000)"] * 40)
    with pytest.raises(UserError, match="memory"):
        list(run_query(database_url, f"SELECT {many}"))


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_every_value_is_one_of_json(database: Database, database_url: str) -> None:
    [page] = run_query(
        database_url,
        "SELECT 1.50::numeric AS a, 'NaN'::numeric AS b, 10::numeric ^ 20 AS c, 'inf'::float8 AS d,"
        " DATE '2024-02-29' AS e, TIMESTAMP '2024-02-29 12:00' AS f, '\\x00ff'::bytea AS g,"
        " '{\"k\": [1, null]}'::jsonb AS h, ARRAY[1.5, 2] AS i, INTERVAL '90 s' AS j,"
        " 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS k, true AS l",
    )
    row = dict(zip(page.columns, page.rows[0], strict=True))
    assert json.loads(json.dumps(row, allow_nan=False)) == {
        "a": 1.5,
        "b": None,
        "c": 10**20,
        "d": None,
        "e": "2024-02-29",
        "f": "2024-02-29T12:00:00",
        "g": "00ff",
        "h": {"k": [1, None]},
        "i": [1.5, 2],
        "j": 90.0,
        "k": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "l": True,
    }


def test_a_write_is_refused_as_without_the_process(database: Database, database_url: str) -> None:
    with pytest.raises(UserError, match="changes nothing"):
        list(run_query(database_url, "DELETE FROM job"))


def test_a_database_that_is_not_there_is_a_missing_part() -> None:
    with pytest.raises(DatabaseUnavailable, match="no database"):
        list(run_query("sqlite:////nowhere/none.db", "SELECT 1"))


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_a_process_that_dies_is_a_sentence(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_process, "python_command", lambda *_: ["/bin/false"])
    with pytest.raises(UserError, match="process ended"):
        list(run_query(database_url, "SELECT 1"))


PLAIN = [
    "SELECT count(*) FROM paper WHERE title LIKE '%system%'",
    "SELECT 1 AS system",
    "SELECT title FROM paper -- the system's papers",
    "SELECT 1 AS nextval, 2 AS \"pg_sleep\", 'setval(1)' AS t",
    "SELECT /* pg_sleep(1) */ 'it''s nextval(x)' AS t",
    "WITH system AS (SELECT 1 AS lo_create) SELECT * FROM system",
    "WITH system(a) AS (SELECT 1) SELECT a FROM system",
    "SELECT count(*) FROM paper TABLESAMPLE system (10)",
    "SELECT currval FROM (SELECT 1 AS currval) AS notify",
    "SELECT E'pg_read' || '_file' AS t",
    "SELECT 5/2*2 AS setval, 1 - -1 AS n",
]


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_words_that_call_nothing_are_allowed(database: Database, database_url: str) -> None:
    for query in PLAIN:
        assert readonly.select(database_url, query).columns, query


CALLS = [
    "SELECT pg_sleep(0)",
    "SELECT pg_sleep\n\t(0)",
    "SELECT pg_sleep -- why\n (0)",
    "SELECT pg_sleep /* a */ /* b */ (0)",
    "SELECT PG_Sleep(0)",
    'SELECT "pg_sleep"(0)',
    'SELECT pg_catalog."pg_sleep" (0)',
    "SELECT 'a' || '''' || pg_sleep(0) || ''''",
    "SELECT '--' , pg_sleep(0)",
    "SELECT '/*' , pg_sleep(0) , '*/'",
    'SELECT "--".x, pg_sleep(0) FROM (SELECT 1 AS x) AS "--"',
    "SELECT E'\\'', pg_sleep(0), E'\\''",
    "SELECT E'a'\n'\\'', pg_sleep(0), '''",
    "SELECT $$'$$, pg_sleep(0), $$'$$",
    "SELECT $a$ $b$ $a$, pg_sleep(0)",
    "SELECT /* /* */ ' */ 1, pg_sleep(0) -- '",
    "SELECT U&'\\0027', pg_sleep(0)",
    "SELECT 1 +/* */pg_sleep(0)",
    "SELECT * FROM pg_sleep(0)",
    "SELECT 1 WHERE EXISTS (SELECT pg_sleep(0))",
    "SELECT x.pg_sleep FROM (SELECT 0.0::float8 AS y) AS x",
]


@pytest.mark.parametrize("query", CALLS)
def test_a_call_in_any_writing_is_found(query: str) -> None:
    assert "pg_sleep" in called_names(query)


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_a_call_in_any_writing_is_refused(database: Database, database_url: str) -> None:
    for query in CALLS:
        with pytest.raises(UserError, match="one SELECT"):
            readonly.select(database_url, query)
