"""What all tables share: one metadata with names for its rules, and how rules are written."""

from __future__ import annotations

from typing import Any, ClassVar, get_args

from sqlalchemy import CheckConstraint, Double, Index, MetaData, text
from sqlalchemy.orm import DeclarativeBase

from db.column_types import CleanText


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
    """Name a rule of a table."""
    return CheckConstraint(rule, name=name)


def check_one_of(column: str, values: Any) -> CheckConstraint:
    """Let `column` hold nothing but one of a Literal's values."""
    return check(column, f"{column} IN ({', '.join(map(repr, get_args(values)))})")


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """Index only the rows where `where` holds."""
    predicate = text(where)
    return Index(name, *columns, unique=unique, sqlite_where=predicate, postgresql_where=predicate)
