"""The declarative base, column types, constraint helpers and SQL helpers of all tables.

Everything here works on SQLite and PostgreSQL. All times are epoch seconds by the database's clock,
because the hosts' clocks may differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, get_args

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    CheckConstraint,
    ColumnElement,
    Connection,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    Text,
    any_,
    bindparam,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, QueryableAttribute
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

#: Epoch seconds of the year 10000. Stands for "no deadline", because NULL sorts first on one
#: database and last on the other, and the claim's order comes from an index.
NEVER = 253_402_300_800.0

#: Keys in one IN list; SQLite takes 32,766 parameters at most.
IN_LIST = 5000

#: 64-bit keys; SQLite generates them only when the type is INTEGER.
Id = BigInteger().with_variant(Integer(), "sqlite")


class now(FunctionElement[float]):
    """The database's clock in epoch seconds; it advances within a transaction."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    # clock_timestamp(), because now() is fixed at the start of the transaction, which may then wait
    # for a lock.
    return "extract(epoch from clock_timestamp())::double precision"


def at_most(number: int) -> ColumnElement[int]:
    """A LIMIT as a literal: with a parameter, PostgreSQL plans for a tenth of the table."""
    return literal_column(str(number), Integer())


def insert_into(on: Connection, table: type[Any]) -> Any:
    """An INSERT with an ON CONFLICT clause, which each dialect has its own construct for."""
    return (postgresql if on.dialect.name == "postgresql" else sqlite).insert(table)


def insert_or_ignore(on: Connection, table: type[Any]) -> Any:
    """An INSERT that skips rows which violate a UNIQUE constraint."""
    return insert_into(on, table).on_conflict_do_nothing()


def in_lists(values: Sequence[Any]) -> list[Sequence[Any]]:
    """Split values into lists that each fit into one statement."""
    return [values[start : start + IN_LIST] for start in range(0, len(values), IN_LIST)]


def among(
    on: Connection, column: QueryableAttribute[int], numbers: Iterable[int]
) -> ColumnElement[bool]:
    """`column IN numbers` with one parameter: thousands of them take longer than the rows."""
    wanted = list(numbers)
    if on.dialect.name == "postgresql":
        return column == any_(bindparam(None, wanted, ARRAY(BigInteger())))
    each = func.json_each(json.dumps(wanted)).table_valued("value")
    return column.in_(select(each.c.value))


#: Bytes of the longest name or id that has an index: PostgreSQL's index entries end at 2,704.
MAX_NAME_BYTES = 512


def is_too_long(name: str) -> bool:
    """Whether a name cannot be indexed."""
    return len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES


def storable(value: str) -> str:
    """Replace what PostgreSQL cannot store: NUL, and the surrogates of undecodable file names."""
    if value.isascii() and "\x00" not in value:
        return value  # the usual case, and a paper has 40,000 characters
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


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
    """Text from papers, models and file systems; `storable` is applied on the way in."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


class SortedText(CleanText):
    """Text that both databases sort by its bytes, whatever PostgreSQL's locale."""

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # type_descriptor would turn it into VARCHAR.
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


class Base(DeclarativeBase):
    """All tables of Referee."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {str: CleanText(), float: Double()}
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def check(name: str, rule: str) -> CheckConstraint:
    """A named CHECK constraint."""
    return CheckConstraint(rule, name=name)


def check_one_of(column: str, values: Any) -> CheckConstraint:
    """A CHECK that `column` holds one of a Literal's values."""
    return check(column, f"{column} IN ({', '.join(map(repr, get_args(values)))})")


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index of the rows for which `where` holds."""
    predicate = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=predicate, postgresql_where=predicate)
