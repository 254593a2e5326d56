"""Submits that are under way: a batch ends only after the last of them.

Each holds a lease, as running jobs do. A submit that was killed leaves its batch `validating`,
which says that papers may be missing; once another submit of the batch has ended after it, its
lease is all that is waited for.
"""

from __future__ import annotations

from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    and_,
    delete,
    exists,
    insert,
    select,
    update,
)

from db.column_types import now
from db.duplicates import close_finished
from db.schema import BatchRow, OpenSubmit
from db.session import Database

#: Seconds after which a submit that has not renewed its lease counts as dead.
LEASE_SECONDS = 60.0


def begin(on: Connection, batch_id: int) -> int:
    """Enter a submit of the batch; return its id."""
    row = {"batch_id": batch_id, "lease_until": now() + LEASE_SECONDS}
    return on.scalars(insert(OpenSubmit).values(**row).returning(OpenSubmit.id)).one()


def renew(on: Connection, submit_id: int) -> bool:
    """Renew the submit's lease. False: it counted as dead and was removed."""
    mine = update(OpenSubmit).where(OpenSubmit.id == submit_id)
    return on.execute(mine.values(lease_until=now() + LEASE_SECONDS)).rowcount == 1


def begin_again(on: Connection, submit_id: int, batch_id: int) -> None:
    """Enter a submit that was removed, and open its batch if another submit has ended it."""
    row = {"id": submit_id, "batch_id": batch_id, "lease_until": now() + LEASE_SECONDS}
    on.execute(insert(OpenSubmit).values(**row))
    ended = (BatchRow.id == batch_id, BatchRow.state.in_(("in_progress", "completed")))
    on.execute(update(BatchRow).where(*ended).values(state="validating", finished_at=None))


def end(on: Connection, submit_id: int | None, batch_id: int) -> None:
    """Remove the submit; without others under way its batch waits for its jobs only."""
    # Of two that end at the same time, the second sees that the first has gone.
    on.execute(select(BatchRow.id).where(BatchRow.id == batch_id).with_for_update(key_share=True))
    of_batch = OpenSubmit.batch_id == batch_id
    on.execute(
        delete(OpenSubmit).where(
            of_batch, (OpenSubmit.id == submit_id) | (OpenSubmit.lease_until <= now())
        )
    )
    on.execute(update(OpenSubmit).where(of_batch).values(outlived=True))
    on.execute(_proceed(BatchRow.id == batch_id, ~exists().where(of_batch)))


def keep(database: Database, submit_id: int | None) -> None:
    """Renew the submit's lease in a transaction of its own."""
    if submit_id is not None:
        with database.write() as on:
            renew(on, submit_id)


def leave(database: Database, submit_id: int | None) -> None:
    """Remove a submit that could not go on, if it is there; its batch stays `validating`."""
    with database.read() as on:
        if on.scalar(select(OpenSubmit.id).where(OpenSubmit.id == submit_id)) is None:
            return
    with database.write() as on:
        on.execute(delete(OpenSubmit).where(OpenSubmit.id == submit_id))


def close_abandoned(database: Database) -> None:
    """Let batches go on whose submits left are dead and were followed by one that ended."""
    waited_for = exists().where(
        OpenSubmit.batch_id == BatchRow.id,
        (OpenSubmit.lease_until > now()) | ~OpenSubmit.outlived,
    )
    left = exists().where(OpenSubmit.batch_id == BatchRow.id)
    abandoned = and_(BatchRow.state == "validating", left, ~waited_for)
    with database.read() as on:
        names = on.scalars(select(BatchRow.name).where(abandoned)).all()
    for name in names:
        with database.write() as on:
            on.execute(_proceed(BatchRow.name == name, abandoned))
            # One that was not dead but frozen finds that it was removed, and begins again.
            of_batch = select(BatchRow.id).where(BatchRow.name == name).scalar_subquery()
            dead = (OpenSubmit.lease_until <= now(), OpenSubmit.outlived)
            on.execute(delete(OpenSubmit).where(OpenSubmit.batch_id == of_batch, *dead))
        close_finished(database, name)


def _proceed(*which: ColumnElement[bool]) -> Update:
    waiting = update(BatchRow).where(*which, BatchRow.state == "validating")
    return waiting.values(state="in_progress")
