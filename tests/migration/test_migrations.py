"""Migrations: up from nothing and from every revision, down, and up again, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, inspect, text

from db import migrate
from db.schema import REVISION
from db.session import Database, open_database
from db.views import view_definitions
from errors import UserError

REVISIONS = [
    revision.revision
    for revision in ScriptDirectory.from_config(migrate._config()).walk_revisions("base", "heads")
][::-1]


def shape(url: str) -> dict[str, Any]:
    """The definitions of all tables and views."""
    database = open_database(url)
    with database.read() as on:
        inspector = inspect(on)
        found: dict[str, Any] = {"views": sorted(inspector.get_view_names())}
        for table in inspector.get_table_names():
            found[table] = {
                "columns": {c["name"]: str(c["type"]) for c in inspector.get_columns(table)},
                "indexes": sorted(str(index["name"]) for index in inspector.get_indexes(table)),
                "checks": sorted(str(c["name"]) for c in inspector.get_check_constraints(table)),
            }
    database.close()
    return found


def test_the_code_knows_its_newest_migration() -> None:
    assert migrate.head() == REVISION == REVISIONS[-1]


def test_an_upgrade_makes_the_schema_of_the_models(empty_url: str) -> None:
    assert migrate.current(empty_url) is None
    migrate.upgrade(empty_url)
    assert migrate.current(empty_url) == migrate.head()
    assert migrate.check(empty_url) == []
    migrate.upgrade(empty_url)
    assert migrate.check(empty_url) == []


def test_down_to_nothing_and_up_again(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    before = shape(empty_url)
    migrate.downgrade(empty_url, "base")
    assert migrate.current(empty_url) is None
    left = shape(empty_url)
    left.pop("alembic_version")
    assert left == {"views": []}
    migrate.upgrade(empty_url)
    assert shape(empty_url) == before


def test_every_revision_can_be_left_upwards_and_reached_downwards(empty_url: str) -> None:
    on_the_way_up = {}
    for revision in REVISIONS:
        migrate.upgrade(empty_url, revision)
        on_the_way_up[revision] = shape(empty_url)
    assert migrate.check(empty_url) == []
    for revision in REVISIONS[-2::-1]:
        migrate.downgrade(empty_url, revision)
        assert migrate.current(empty_url) == revision
        assert shape(empty_url) == on_the_way_up[revision]


def test_the_migrations_write_every_rule_as_the_models_do(
    database: Database, empty_url: str
) -> None:
    """Alembic compares neither CHECKs nor partial indexes: compare with a schema made directly."""
    direct = open_database(empty_url)
    with direct.write() as on:
        migrate.metadata().create_all(on)
    with direct.read() as made, database.read() as migrated:
        assert _rules(made, direct.dialect) == _rules(migrated, database.dialect)
    direct.close()


def _rules(on: Any, dialect: str) -> set[str]:
    if dialect == "postgresql":
        constraints = on.scalars(
            text(
                "SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) "
                "FROM pg_constraint WHERE connamespace = 'public'::regnamespace "
                "AND conrelid::regclass::text <> 'alembic_version'"
            )
        ).all()
        indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
        found = {*constraints, *on.scalars(text(indexes))}
        return {rule for rule in found if "alembic_version" not in rule}
    statements = on.scalars(
        text("SELECT sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL")
    )
    # Alembic writes constraints in another order than the models do, and ALTER TABLE writes all
    # that it adds on the table's last line.
    lines = {
        " ".join(line.strip(" ,()\t").split())
        for statement in statements
        if "alembic_version" not in statement
        for part in statement.splitlines()
        for line in part.split(", ")
    }
    return {line.replace('"', "") for line in lines}


def test_check_names_what_differs(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    database = open_database(empty_url)
    with database.write() as on:
        on.execute(text("DROP VIEW pk_summary"))
        on.execute(text("DROP INDEX ix_job_lease"))
        on.execute(text("CREATE TABLE stray (id INTEGER)"))
    database.close()
    found = "\n".join(migrate.check(empty_url))
    for name in ("pk_summary", "ix_job_lease", "stray"):
        assert name in found


def test_every_check_constraint_has_a_name_that_postgresql_keeps() -> None:
    names = [
        str(rule.name)
        for table in migrate.metadata().sorted_tables
        for rules in (table.constraints, table.indexes)
        for rule in rules
    ]
    assert all(len(name) <= 63 for name in names)
    checks = [
        rule
        for table in migrate.metadata().sorted_tables
        for rule in table.constraints
        if isinstance(rule, CheckConstraint)
    ]
    assert len({rule.name for rule in checks}) == len(checks)


def test_an_unknown_revision_is_refused_and_changes_nothing(database_url: str) -> None:
    with pytest.raises(UserError, match="nowhere"):
        migrate.upgrade(database_url, "nowhere")
    assert migrate.check(database_url) == []
    assert set(shape(database_url)["views"]) == set(view_definitions("sqlite"))


def test_a_migration_keeps_the_rows_and_their_children(database_url: str) -> None:
    """SQLite copies a table to alter it; with foreign keys on, that would empty its children."""
    database = open_database(database_url)
    with database.write() as on:
        on.execute(
            text(
                "INSERT INTO reviewer (id, name, version, sha256, kind, queue, config, created_at) "
                "VALUES (1, 'r', 1, 's', 'local', 'q', '{}', 0)"
            )
        )
        on.execute(
            text(
                "INSERT INTO batch (id, name, reviewer_id, state, paused, priority, samples, "
                "allow_external, options_sha256, created_at) "
                "VALUES (1, 'b', 1, 'completed', false, 1, 1, false, 's', 0)"
            )
        )
    database.close()
    migrate.downgrade(database_url, REVISIONS[0])
    migrate.upgrade(database_url)
    database = open_database(database_url)
    with database.read() as on:
        assert on.execute(text("SELECT count(*) FROM batch")).scalar() == 1
    database.close()


def test_flags_of_papers_move_to_the_file_that_was_stored_first(empty_url: str) -> None:
    # Given a flagged paper of two files and two batches, as 0012 stored it
    migrate.upgrade(empty_url, "0012")
    database = open_database(empty_url)
    with database.write() as on:
        for statement in _AT_0012:
            on.execute(text(statement))
    # When the database is upgraded
    migrate.upgrade(empty_url)
    # Then the file that was stored first has the flags, in each batch
    with database.read() as on:
        jobs = on.execute(text("SELECT custom_id, n_flags FROM job ORDER BY id")).all()
        flags = on.execute(text("SELECT job_id, kind, detail, page FROM job_flag")).all()
    assert jobs == [("a", 2), ("b", 0), ("a", 2)]
    both = [("hidden_text", "tiny: 'a (page 1): b'", 2), ("encoding", "not UTF-8", None)]
    assert flags == [(job, *flag) for job in (1, 3) for flag in both]
    # And they come back to the paper on the way down
    migrate.downgrade(empty_url, "0012")
    with database.read() as on:
        found = on.execute(text("SELECT n_flags, flags FROM paper")).one()
    assert found.n_flags == 2
    assert "hidden_text: tiny: 'a (page 1): b' (page 2)" in str(found.flags)
    database.close()


_AT_0012 = (
    "INSERT INTO reviewer (id, name, version, sha256, kind, queue, config, created_at) "
    "VALUES (1, 'r', 1, 's', 'local', 'q', '{}', 0)",
    "INSERT INTO paper (id, sha256, title, abstract, sections, flags, n_flags, created_at, body) "
    f"VALUES (1, '{'a' * 64}', 't', 'a', '[]', "
    """'["hidden_text: tiny: ''a (page 1)\\: b'' (page 2)", "encoding: not UTF-8"]', 2, 0, 'b')""",
    *(
        "INSERT INTO batch (id, name, reviewer_id, state, paused, priority, samples, "
        "allow_external, options_sha256, created_at) "
        f"VALUES ({batch}, 'b{batch}', 1, 'completed', false, 1, 1, false, 's', 0)"
        for batch in (1, 2)
    ),
    *(
        "INSERT INTO job (id, batch_id, custom_id, sample, source, paper_id, duplicate_of, queue, "
        "reviewer_id, priority, deadline_at, seed, held, state, attempt, given_back, crashes, "
        "crashes_alone, alone, not_before, cancel_requested, created_at, queued_at) "
        f"VALUES ({job}, {batch}, '{name}', 0, '{name}.pdf', 1, {original}, 'q', 1, 1, 0, 1, "
        "false, 'queued', 0, 0, 0, 0, false, 0, false, 0, 0)"
        for job, batch, name, original in ((1, 1, "a", "NULL"), (2, 1, "b", 1), (3, 2, "a", "NULL"))
    ),
)
