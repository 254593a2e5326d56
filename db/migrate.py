"""Running of the Alembic migrations, and comparison of a database with the schema.

Views are not part of the migrations: an upgrade drops them first and creates the current ones at
its end, so that a migration may change any table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import CheckConstraint, Connection, MetaData, event, inspect, text

# Imported to register their tables in the metadata.
from db import schema, schema_data, schema_judging, schema_training  # noqa: F401
from db.column_types import Base
from db.session import Database, open_database, schema_revision
from db.views import create_views, drop_views, missing_views
from errors import UserError
from resources import package_folder


def metadata() -> MetaData:
    """The metadata of all tables."""
    return Base.metadata


def head() -> str:
    """The newest revision."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def current(url: str) -> str | None:
    """The database's revision; None when it is empty."""
    with _opened(url) as database, database.read() as on:
        return schema_revision(on)


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database up to `revision`, in one transaction. Raises UserError if unknown."""
    _move(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str) -> None:
    """Take the database back to `revision` ("base" empties it), in one transaction."""
    _move(url, lambda config: command.downgrade(config, revision))


def check(url: str) -> list[str]:
    """Differences between the database and the models, a sentence each."""
    with _opened(url) as database, database.read() as on:
        context = MigrationContext.configure(on, opts={"compare_type": True})
        differences = [_sentence(change) for change in compare_metadata(context, metadata())]
        return differences + _missing_checks(on) + missing_views(on)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(package_folder("migrations")))
    return config


@contextmanager
def _opened(url: str) -> Iterator[Database]:
    database = open_database(url, max_connections=1)
    try:
        yield database
    finally:
        database.close()


def _move(url: str, step: Callable[[Config], None]) -> None:
    config = _config()
    with _opened(url) as database, _exclusive_transaction(database) as on:
        config.attributes["connection"] = on
        drop_views(on)
        try:
            step(config)
        except CommandError as error:
            raise UserError(f"No such migration step: {error}.") from error
        if schema_revision(on) == head():
            create_views(on)


@contextmanager
def _exclusive_transaction(database: Database) -> Iterator[Connection]:
    """A writing transaction that excludes other migrations."""
    if database.dialect == "sqlite":
        # Alembic copies a table to alter it; dropping the old one would delete its children's rows.
        database.engine.dispose()
        event.listen(
            database.engine, "connect", lambda c, _: c.execute("PRAGMA foreign_keys = OFF")
        )
    with database.write() as on:
        if database.dialect == "postgresql":
            on.execute(text("SELECT pg_advisory_xact_lock(hashtext('referee schema'))"))
        yield on
        if database.dialect == "sqlite":
            orphans = on.exec_driver_sql("PRAGMA foreign_key_check").all()
            assert not orphans, f"the migration leaves rows without their parents: {orphans[:3]}"


def _missing_checks(on: Connection) -> list[str]:
    """Compare the names of CHECK constraints, which Alembic does not."""
    inspector = inspect(on)
    tables = set(inspector.get_table_names()) & set(metadata().tables)
    return [
        f"table {name}: CHECK {rule} is missing or unknown"
        for name in sorted(tables)
        for rule in sorted(
            {str(check["name"]) for check in inspector.get_check_constraints(name)}
            ^ _check_names(name)
        )
    ]


def _check_names(table: str) -> set[str]:
    rules = metadata().tables[table].constraints
    return {str(rule.name) for rule in rules if isinstance(rule, CheckConstraint)}


def _sentence(change: Any) -> str:
    if isinstance(change, list):
        return "; ".join(_sentence(part) for part in change)
    named = (str(getattr(part, "name", None) or part) for part in change if part is not None)
    return " ".join(named)
