"""The database that a command works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from db.session import Database


def ready_database() -> Database:
    """Open the configured database; a local file that does not exist yet is created."""
    from db.session import open_database, require_current, schema_revision
    from settings import get_settings

    database = open_database(get_settings().database)
    with database.read() as on:
        empty = schema_revision(on) is None
    if empty and database.dialect == "sqlite":
        from db import migrate

        migrate.upgrade(database.url)
    require_current(database)
    return database
