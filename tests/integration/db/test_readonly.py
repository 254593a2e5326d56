"""`referee sql` is read-only for any statement."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from db import readonly
from db.readonly import QueryResult, select
from db.session import Database, DatabaseUnavailable
from errors import UserError
from tests.integration.db.content import paper, submit

WRITES = {
    "insert": "INSERT INTO item (id) VALUES (1)",
    "update": "UPDATE paper SET title = 'changed'",
    "delete": "DELETE FROM job",
    "drop": "DROP TABLE item",
    "drop view": "DROP VIEW review_flat",
    "create": "CREATE TABLE t (x int)",
    "temporary": "CREATE TEMPORARY TABLE t (x int)",
    "alter": "ALTER TABLE item ADD COLUMN x int",
    "two statements": "SELECT 1; DELETE FROM job",
    "hidden second": "SELECT 1; -- read\n; UPDATE paper SET title = 'changed'",
    "begin": "BEGIN",
    "commit first": "COMMIT; DELETE FROM job",
    "vacuum": "VACUUM",
    "reindex": "REINDEX",
    "analyze": "ANALYZE",
    "empty": "",
    "comment": "-- nothing",
}
SQLITE_WRITES = {
    "pragma": "PRAGMA journal_mode = DELETE",
    "pragma read": "PRAGMA table_info(job)",
    "pragma function": "SELECT * FROM pragma_wal_checkpoint",
    "attach": "ATTACH DATABASE '{folder}/other.db' AS other",
    "detach": "DETACH DATABASE main",
    "vacuum into": "VACUUM INTO '{folder}/copy.db'",
    "cte": "WITH gone AS (SELECT 1) DELETE FROM job WHERE id IN (SELECT * FROM gone)",
    "returning": "DELETE FROM job RETURNING id",
    "replace": "REPLACE INTO item (id) VALUES (1)",
    "schema": "UPDATE sqlite_master SET sql = ''",
    "extension": "SELECT load_extension('x')",
    "tokenizer": "SELECT fts3_tokenizer('simple')",
    "writefile": "SELECT writefile('{folder}/f', 'x')",
    "virtual table": "CREATE VIRTUAL TABLE v USING fts5(x)",
    "savepoint": "SAVEPOINT s",
    "explain": "EXPLAIN DELETE FROM job",
}
POSTGRES_WRITES = {
    "cte": "WITH gone AS (DELETE FROM job RETURNING id) SELECT * FROM gone",
    "cte insert": "WITH a AS (INSERT INTO paper (id) VALUES (9) RETURNING id) SELECT * FROM a",
    "select into": "SELECT * INTO copied FROM job",
    "create as": "CREATE TABLE copied AS SELECT * FROM job",
    "lock": "SELECT * FROM job FOR UPDATE",
    "explain analyze": "EXPLAIN ANALYZE DELETE FROM job",
    "explain": "EXPLAIN SELECT 1",
    "copy out": "COPY job TO '{folder}/f'",
    "copy program": "COPY (SELECT 1) TO PROGRAM 'touch {folder}/f'",
    "copy in": "COPY job FROM '{folder}/f'",
    "do": "DO $$ BEGIN DELETE FROM job; END $$",
    "call": "CALL nothing()",
    "set": "SET default_transaction_read_only = off",
    "set role": "SET ROLE postgres",
    "prepare": "PREPARE p AS DELETE FROM job",
    "execute": "EXECUTE p",
    "listen": "LISTEN x",
    "notify": "NOTIFY x",
    "lock table": "LOCK TABLE job",
    "truncate": "TRUNCATE job",
    "close": "CLOSE ALL",
    "terminate": "SELECT pg_terminate_backend(1)",
    "spaced": "SELECT pg_terminate_backend /* really */ (1)",
    "qualified": "SELECT pg_catalog . pg_terminate_backend(1)",
    "upper case": "SELECT PG_TERMINATE_BACKEND(1)",
    "quoted": 'SELECT "pg_terminate_backend"(1)',
    "escaped": 'SELECT U&"pg\\005fterminate_backend"(1)',
    "advisory lock": "SELECT pg_advisory_lock(1)",
    "nextval": "SELECT nextval('job_id_seq')",
    "setval": "SELECT setval('job_id_seq', 1)",
    "set_config": "SELECT set_config('transaction_read_only', 'off', false)",
    "large object": "SELECT lo_from_bytea(0, 'x')",
    "export": "SELECT lo_export(1, '{folder}/f')",
    "read file": "SELECT pg_read_file('/etc/passwd')",
    "list files": "SELECT pg_ls_dir('/')",
    "notify function": "SELECT pg_notify('x', 'y')",
    "sleep": "SELECT pg_sleep(0.01)",
    "reload": "SELECT pg_reload_conf()",
    "query in a string": "SELECT query_to_xml('DELETE FROM job', true, true, '')",
    "statistics": "SELECT * FROM ts_stat('DELETE FROM job')",
    "table function": "SELECT * FROM pg_ls_dir('/') AS f",
}


def fingerprint(database: Database) -> list[tuple[object, ...]]:
    with database.read() as on:
        query = "SELECT id, state, (SELECT min(title) FROM paper) FROM job ORDER BY id"
        return [tuple(row) for row in on.execute(text(query))]


def must_refuse(database: Database, url: str, sql: str, folder: Path) -> None:
    submit(database, "b", paper("a"), paper("b"))
    before = fingerprint(database)
    with pytest.raises(UserError) as refusal:
        select(url, sql.format(folder=folder / "out") if "{folder}" in sql else sql)
    sentence = str(refusal.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert fingerprint(database) == before
    assert not list(folder.glob("out/*"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", WRITES)
def test_a_write_is_refused(database: Database, database_url: str, folder: Path, name: str) -> None:
    must_refuse(database, database_url, WRITES[name], folder)


@pytest.mark.parametrize("dialect", ["sqlite"])
@pytest.mark.parametrize("name", SQLITE_WRITES)
def test_a_write_is_refused_on_sqlite(
    database: Database, database_url: str, folder: Path, name: str
) -> None:
    must_refuse(database, database_url, SQLITE_WRITES[name], folder)


@pytest.mark.parametrize("dialect", ["postgresql"])
@pytest.mark.parametrize("name", POSTGRES_WRITES)
def test_a_write_is_refused_on_postgresql(
    database: Database, database_url: str, folder: Path, name: str
) -> None:
    must_refuse(database, database_url, POSTGRES_WRITES[name], folder)


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_a_function_of_our_own_that_writes_is_refused(
    database: Database, database_url: str, folder: Path
) -> None:
    body = "AS 'DELETE FROM job'"
    with database.write() as on:
        on.execute(text(f"CREATE FUNCTION sweep() RETURNS void LANGUAGE sql {body}"))
        on.execute(text(f"CREATE FUNCTION sly() RETURNS void LANGUAGE sql STABLE {body}"))
    must_refuse(database, database_url, "SELECT sweep()", folder)
    # A function declared as immutable is still stopped by the read-only transaction.
    must_refuse(database, database_url, "SELECT sly()", folder)
    with database.write() as on:
        on.execute(text("DROP FUNCTION sweep(), sly()"))


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_no_operator_cast_or_aggregate_hides_a_function_with_side_effects(
    database: Database,
) -> None:
    """The guard checks names only, so no volatile function may be reachable without its name."""
    hidden = {
        "operators": "SELECT oprname FROM pg_operator JOIN pg_proc p ON p.oid = oprcode",
        "casts": "SELECT proname FROM pg_cast JOIN pg_proc p ON p.oid = castfunc",
        "aggregates": "SELECT proname FROM pg_aggregate JOIN pg_proc p ON p.oid = aggtransfn",
        "types": "SELECT typname FROM pg_type JOIN pg_proc p ON p.oid = typinput",
    }
    with database.read() as on:
        for query in hidden.values():
            assert on.scalars(text(f"{query} WHERE p.provolatile = 'v'")).all() == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT custom_id, state FROM job ORDER BY custom_id",
        "  select custom_id, state from job order by custom_id ; ",
        "-- what is there\nSELECT custom_id, state FROM job ORDER BY custom_id",
        "WITH j AS (SELECT * FROM job) SELECT custom_id, state FROM j ORDER BY 1",
    ],
)
def test_a_select_is_answered(database: Database, database_url: str, sql: str) -> None:
    submit(database, "b", paper("a"), paper("b"))
    expected = QueryResult(("custom_id", "state"), (("a", "queued"), ("b", "queued")))
    assert select(database_url, sql) == expected
    assert select(database_url, sql, limit=1).rows == (("a", "queued"),)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*), max(id), avg(priority), coalesce(min(worker), 'x') FROM job",
        "SELECT lower(title) || '%', length(body), substr(body, 1, 3), 7 % 2 FROM paper",
        "SELECT title FROM paper WHERE title LIKE '%a%' AND body <> ';'",
        "VALUES (1, 'a'), (2, 'b')",
        "SELECT row_number() OVER (ORDER BY id) FROM job",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x < 5) SELECT * FROM n",
        "SELECT random() IS NOT NULL, current_timestamp IS NOT NULL",
    ],
)
def test_ordinary_sql_works(database: Database, database_url: str, sql: str) -> None:
    submit(database, "b", paper("a"))
    assert select(database_url, sql).rows


def test_a_mistake_is_explained(database: Database, database_url: str) -> None:
    with pytest.raises(UserError, match="nonsense"):
        select(database_url, "SELECT nonsense FROM job")
    with pytest.raises(UserError, match="syntax"):
        select(database_url, "SELECT FROM WHERE")


def test_a_query_without_end_is_stopped(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readonly, "QUERY_SECONDS", 1)
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    )
    with pytest.raises(UserError, match="longer than 1 s"):
        select(database_url, endless)


def test_reading_does_not_wait_for_a_writer(database: Database, database_url: str) -> None:
    submit(database, "b", paper("a"))
    with database.write() as on:
        on.execute(text("UPDATE job SET priority = 2"))
        assert select(database_url, "SELECT priority FROM job").rows == ((1,),)


def test_a_database_that_is_not_there_is_a_missing_part(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="no database"):
        select(f"sqlite:///{tmp_path}/none.db", "SELECT 1")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        select("postgresql://user:secret@127.0.0.1:1/none", "SELECT 1")
