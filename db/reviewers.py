"""Reviewers and their immutable versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    RowMapping,
    ScalarSelect,
    Select,
    exists,
    func,
    insert,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError

from db.column_types import MAX_NAME_BYTES, is_too_long, now
from db.schema import JUDGE_QUEUE, BatchRow, Job, ReviewerRow, ReviewRow
from db.session import Database
from errors import UserError


@dataclass(frozen=True)
class ReviewerVersion:
    """One version of a reviewer. `queue` is where its jobs ring; `config` is what was hashed."""

    id: int
    name: str
    version: int
    sha256: str
    kind: str
    queue: str
    config: Mapping[str, Any]


#: What `version_of` needs; the prefix keeps the names apart from those of joined tables.
COLUMNS = tuple(
    getattr(ReviewerRow, part.name).label(f"reviewer_{part.name}")
    for part in fields(ReviewerVersion)
)


#: A judge is stored as a version too, but writes no reviews.
_IS_REVIEWER = ReviewerRow.queue != JUDGE_QUEUE


def aspects_of(reviewer: type[ReviewerRow] = ReviewerRow) -> ColumnElement[str | None]:
    """Name of the aspect set in a reviewer's configuration, as a column "aspects"."""
    name: ColumnElement[str | None] = type_coerce(reviewer.config, JSON)["aspects"].as_string()
    return name.label("aspects")


def register(
    database: Database,
    *,
    name: str,
    sha256: str,
    kind: str,
    queue: str,
    config: Mapping[str, Any],
) -> ReviewerVersion:
    """Find the version with this hash under this name, or make the name's next version.

    UserError for a name that is too long.
    """
    if is_too_long(name):
        raise UserError(f"A reviewer's name may have at most {MAX_NAME_BYTES} bytes.")
    values = {"name": name, "sha256": sha256, "kind": kind, "queue": queue, "config": config}
    try:
        with database.write() as on:
            return _known(on, name, sha256) or _add(on, values)
    except IntegrityError:
        # Somebody else added a version between our look and our insert.
        return register(database, name=name, sha256=sha256, kind=kind, queue=queue, config=config)


def _known(on: Connection, name: str, sha256: str) -> ReviewerVersion | None:
    return _first(
        on, select(*COLUMNS).where(ReviewerRow.name == name, ReviewerRow.sha256 == sha256)
    )


def _add(on: Connection, values: dict[str, Any]) -> ReviewerVersion:
    newest = select(func.max(ReviewerRow.version)).where(ReviewerRow.name == values["name"])
    version = (on.scalar(newest) or 0) + 1
    made = on.execute(insert(ReviewerRow).values(version=version, **values).returning(*COLUMNS))
    return version_of(made.mappings().one())


def newest(database: Database, name: str) -> ReviewerVersion | None:
    """Give the name's version in force: the newest, unless another was put in force later."""
    query = select(*COLUMNS).where(ReviewerRow.id == _in_force(name), _IS_REVIEWER)
    with database.read() as on:
        return _first(on, query)


def put_in_force(database: Database, reviewer_id: int) -> None:
    """Give this version the batches to come; those that were submitted keep theirs."""
    with database.write() as on:
        on.execute(
            update(ReviewerRow).where(ReviewerRow.id == reviewer_id).values(in_force_at=now())
        )


def withdraw_version(database: Database, name: str) -> ReviewerVersion | None:
    """Withdraw the name's version in force, so that the one before is in force again.

    Returns the one that was withdrawn; None when there is no other, and nothing is changed.
    """
    others = select(func.count()).where(
        ReviewerRow.name == name, ReviewerRow.in_force_at.is_not(None)
    )
    with database.write() as on:
        withdrawn = (
            update(ReviewerRow)
            .where(ReviewerRow.id == _in_force(name), others.correlate(None).scalar_subquery() > 1)
            .values(in_force_at=None)
            .returning(*COLUMNS)
        )
        row = on.execute(withdrawn).mappings().first()
    return None if row is None else version_of(row)


def _in_force(name: str) -> ScalarSelect[int]:
    return (
        select(ReviewerRow.id)
        .where(ReviewerRow.name == name, ReviewerRow.in_force_at.is_not(None))
        .order_by(ReviewerRow.in_force_at.desc(), ReviewerRow.version.desc())
        .limit(1)
        .correlate(None)
        .scalar_subquery()
    )


def get(database: Database, reviewer_id: int) -> ReviewerVersion | None:
    """Give the version with this id."""
    with database.read() as on:
        return _first(on, select(*COLUMNS).where(ReviewerRow.id == reviewer_id))


def has_succeeded(database: Database, reviewer_id: int) -> bool:
    """Whether a job of this version has ever succeeded on any worker."""
    batches = select(BatchRow.id).where(BatchRow.reviewer_id == reviewer_id)
    done = exists().where(Job.batch_id.in_(batches), Job.state == "succeeded")
    written = exists().where(ReviewRow.reviewer_id == reviewer_id)
    with database.read() as on:
        return bool(on.scalar(select(or_(written, done))))


def listing(database: Database) -> list[ReviewerVersion]:
    """Give all versions, by name and version; judges are no reviewers."""
    query = select(*COLUMNS).where(_IS_REVIEWER).order_by(ReviewerRow.name, ReviewerRow.version)
    with database.read() as on:
        return [version_of(row) for row in on.execute(query).mappings()]


@dataclass(frozen=True)
class Pins:
    """Hashes that a version's reviews are written with; None is not pinned yet."""

    template_sha256: str | None
    weights_sha256: str | None


def pin(database: Database, reviewer_id: int, mine: Pins) -> Pins:
    """Pin what is not pinned yet to a worker's own hashes; return what holds for everyone."""
    open_ones = or_(ReviewerRow.template_sha256.is_(None), ReviewerRow.weights_sha256.is_(None))
    found = select(ReviewerRow.template_sha256, ReviewerRow.weights_sha256)
    with database.write() as on:
        on.execute(
            update(ReviewerRow)
            .where(ReviewerRow.id == reviewer_id, open_ones)
            .values(
                template_sha256=func.coalesce(ReviewerRow.template_sha256, mine.template_sha256),
                weights_sha256=func.coalesce(ReviewerRow.weights_sha256, mine.weights_sha256),
            )
        )
        return Pins(*on.execute(found.where(ReviewerRow.id == reviewer_id)).one())


def version_of(row: RowMapping) -> ReviewerVersion:
    """Build a version from a row that has COLUMNS."""
    return ReviewerVersion(
        **{part.name: row[f"reviewer_{part.name}"] for part in fields(ReviewerVersion)}
    )


def _first(on: Connection, query: Select[Any]) -> ReviewerVersion | None:
    row = on.execute(query).mappings().first()
    return None if row is None else version_of(row)
