"""Column types and the database's clock, the same on SQLite and PostgreSQL.

All times are epoch seconds as the database counts them: hosts' clocks may differ, the database
has one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    ColumnElement,
    Connection,
    Dialect,
    Double,
    Integer,
    Text,
    any_,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import QueryableAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

#: Epoch seconds of the year 10000. Stands for "no deadline", because NULL sorts first on one
#: database and last on the other, and the claim's order comes from an index.
NEVER = 253_402_300_800.0

#: 64-bit keys; SQLite numbers rows by itself only when the type is INTEGER.
Id = BigInteger().with_variant(Integer(), "sqlite")


class now(FunctionElement[float]):
    """The database's clock in epoch seconds; within a transaction it moves on."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    # clock_timestamp, not now(): the latter stands still while a transaction waits for a lock.
    return "extract(epoch from clock_timestamp())::double precision"


def at_most(number: int) -> ColumnElement[int]:
    """Write a LIMIT as a number: for a parameter PostgreSQL plans to fetch a tenth of the table."""
    return literal_column(str(number), Integer())


def insert_into(on: Connection, table: type[Any]) -> Any:
    """An INSERT that may say what to do on a conflict: each dialect has its own."""
    return (postgresql if on.dialect.name == "postgresql" else sqlite).insert(table)


def among(
    on: Connection, column: QueryableAttribute[int], numbers: Iterable[int]
) -> ColumnElement[bool]:
    """Write `column IN numbers` with one parameter: thousands take longer than the rows."""
    wanted = list(numbers)
    if on.dialect.name == "postgresql":
        return column == any_(bindparam(None, wanted, ARRAY(BigInteger())))
    each = func.json_each(json.dumps(wanted)).table_valued("value")
    return column.in_(select(each.c.value))


def storable(text: str) -> str:
    """Replace what PostgreSQL cannot store: NUL, and the surrogates of undecodable file names."""
    if text.isascii() and "\x00" not in text:
        return text  # most are, and a paper has 40,000 characters
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def storable_json(value: Any) -> Any:
    """`storable` for every string inside; NaN and infinities, which are not JSON, become null."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {storable(str(key)): storable_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [storable_json(part) for part in value]
    return value


class CleanText(TypeDecorator[str]):
    """Text from papers, models and file systems, made storable on the way in."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


class SortedText(CleanText):
    """Text whose order is that of its bytes on both databases, whatever PostgreSQL's locale."""

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # Not by type_descriptor, which makes a VARCHAR of it.
        return Text(collation="C") if dialect.name == "postgresql" else Text()


class CleanJson(TypeDecorator[Any]):
    """A JSON document: JSONB on PostgreSQL, text on SQLite; None is SQL's NULL."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        kind = JSONB if dialect.name == "postgresql" else JSON
        return dialect.type_descriptor(kind(none_as_null=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return storable_json(value)
