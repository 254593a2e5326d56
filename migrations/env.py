"""How Alembic runs a migration: on the connection that `db.migrate` hands over."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from db.column_types import CleanJson, CleanText, SortedText
from db.migrate import metadata


def plain_type(kind: str, thing: Any, autogen: AutogenContext) -> str | Literal[False]:
    """Write our column types as the plain ones they store: migrations import nothing of ours."""
    if kind == "type" and isinstance(thing, SortedText):
        return "sa.Text().with_variant(sa.Text(collation='C'), 'postgresql')"
    if kind == "type" and isinstance(thing, CleanText):
        return "sa.Text()"
    if kind == "type" and isinstance(thing, CleanJson):
        autogen.imports.add("from sqlalchemy.dialects import postgresql")
        return "sa.JSON().with_variant(postgresql.JSONB(), 'postgresql')"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata(),
    # SQLite cannot alter a table: Alembic copies it instead.
    render_as_batch=True,
    render_item=plain_type,
)
with context.begin_transaction():
    context.run_migrations()
