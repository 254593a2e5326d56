"""Batches: opened, resumed and closed by a submit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, case, insert, null, select, update
from sqlalchemy.exc import IntegrityError

from db import open_submits
from db.column_types import MAX_NAME_BYTES, is_too_long, now
from db.duplicates import close_finished
from db.reviewers import COLUMNS as REVIEWER_COLUMNS
from db.reviewers import ReviewerVersion, version_of
from db.schema import BatchRow as Row
from db.schema import ReviewerRow
from db.session import Database
from errors import UserError

#: What becomes of a file with hidden text: it is read without, it fails, or it is read with it.
OnHiddenText = Literal["strip", "reject", "keep"]


@dataclass(frozen=True)
class BatchOptions:
    """What a batch is submitted with. `priority` is 0 (high), 1 or 2; the deadline counts from
    the batch's creation, in seconds."""

    priority: int = 1
    deadline_seconds: float | None = None
    samples: int = 1
    allow_external: bool = False
    on_hidden_text: OnHiddenText = "strip"

    @property
    def sha256(self) -> str:
        """Hash that tells two sets of options apart."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Batch:
    """Submitted papers for one reviewer version. `created_at` is in epoch seconds.

    `submit_id` is that of the submit which opened it.
    """

    id: int
    name: str
    state: str
    reviewer: ReviewerVersion
    options: BatchOptions
    created_at: float
    submit_id: int | None = None


def open_batch(
    database: Database, name: str, reviewer: ReviewerVersion, options: BatchOptions
) -> Batch:
    """Make the batch, or resume the one of that name, which keeps its reviewer's version.

    Raises UserError when the batch exists with another reviewer or other options, when it was
    cancelled, or when its name is too long.
    """
    if is_too_long(name):
        raise UserError(f"A batch's name may have at most {MAX_NAME_BYTES} bytes.")
    try:
        with database.write() as on:
            found = _find(on, name)
            if found is None:
                on.execute(insert(Row).values(**_new(name, reviewer, options)))
            else:
                _refuse_other(found, reviewer, options)
                on.execute(update(Row).where(Row.id == found.id).values(state="validating"))
            opened = _find(on, name)
            assert opened is not None
            return replace(opened, submit_id=open_submits.begin(on, opened.id))
    except IntegrityError:
        # Somebody else made it between our look and our insert.
        return open_batch(database, name, reviewer, options)


def find_batch(database: Database, name: str) -> Batch:
    """Give the batch as it is. Raises UserError when there is none of that name."""
    with database.read() as on:
        require_batch(on, name)
        found = _find(on, name)
    assert found is not None
    return found


def reopen_batch(database: Database, name: str) -> Batch:
    """Open a batch for more papers as it is; a deadline that has passed no longer holds.

    Raises UserError when there is none of that name, or when it was cancelled.
    """
    with database.write() as on:
        require_batch(on, name)
        found = _find(on, name)
        assert found is not None
        _refuse_other(found, found.reviewer, found.options)
        passed = Row.deadline_at <= now()
        on.execute(
            update(Row)
            .where(Row.id == found.id)
            .values(
                state="validating",
                finished_at=None,
                deadline_at=case((passed, null()), else_=Row.deadline_at),
            )
        )
        return replace(found, submit_id=open_submits.begin(on, found.id))


def finish_submit(database: Database, batch: Batch) -> None:
    """Say that no more papers follow from this submit; after the last, the batch ends with its
    jobs."""
    with database.write() as on:
        open_submits.end(on, batch.submit_id, batch.id)
    close_finished(database, batch.name)


def require_batch(on: Connection, name: str) -> int:
    """Give the id of the batch. Raises UserError when there is none of that name."""
    batch_id = on.scalar(select(Row.id).where(Row.name == name))
    if batch_id is None:
        raise UserError(f"There is no batch {name!r}; `referee status` lists them.")
    return batch_id


def reviewer_of(database: Database, name: str) -> ReviewerVersion:
    """Give the version that the batch is bound to. Raises UserError when there is no such batch."""
    with database.read() as on:
        batch_id = require_batch(on, name)
        query = select(*REVIEWER_COLUMNS).join(Row, Row.reviewer_id == ReviewerRow.id)
        return version_of(on.execute(query.where(Row.id == batch_id)).mappings().one())


def _new(name: str, reviewer: ReviewerVersion, options: BatchOptions) -> dict[str, Any]:
    seconds = options.deadline_seconds
    return {
        "name": name,
        "reviewer_id": reviewer.id,
        "options_sha256": options.sha256,
        "deadline_at": None if seconds is None else now() + seconds,
        **asdict(options),
    }


def _find(on: Connection, name: str) -> Batch | None:
    query = (
        select(
            *(Row.id, Row.name, Row.state, Row.created_at),
            *(Row.priority, Row.deadline_seconds, Row.samples, Row.allow_external),
            Row.on_hidden_text,
            *REVIEWER_COLUMNS,
        )
        .join(ReviewerRow, ReviewerRow.id == Row.reviewer_id)
        .where(Row.name == name)
        .with_for_update(of=Row)
    )
    row = on.execute(query).mappings().first()
    return None if row is None else _batch_of(row)


def _batch_of(row: RowMapping) -> Batch:
    names = (field.name for field in fields(BatchOptions))
    options = BatchOptions(**{name: row[name] for name in names})
    return Batch(row["id"], row["name"], row["state"], version_of(row), options, row["created_at"])


def _refuse_other(found: Batch, reviewer: ReviewerVersion, options: BatchOptions) -> None:
    if found.state in ("cancelling", "cancelled"):
        raise UserError(
            f"Batch {found.name!r} was cancelled; `referee retry {found.name}` runs it again, "
            "or choose another name."
        )
    then, today = asdict(found.options), asdict(options)
    then["reviewer"], today["reviewer"] = found.reviewer.name, reviewer.name
    differences = [
        f"{key} {then[key]}, not {today[key]}" for key in then if then[key] != today[key]
    ]
    if differences:
        raise UserError(
            f"Batch {found.name!r} exists with {' and '.join(differences)}; "
            "repeat its options to resume it, or choose another name."
        )
