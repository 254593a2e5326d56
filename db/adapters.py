"""Adapters in the database, with their bytes.

Workers on all machines get an adapter from the database, as they get papers. Its bytes are those of
the files that `files` of its record names, concatenated, in chunks of 1 MiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, exists, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from db.schema import ReviewerRow
from db.schema_training import AdapterChunk, AdapterPaper, AdapterState
from db.schema_training import AdapterRow as Row
from db.session import Database
from errors import UserError

#: Bytes of a chunk, which a constraint limits to 1 MiB.
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class NewAdapter:
    """What is stored of an adapter. `papers` are the SHA-256 of those that it was trained on."""

    sha256: str
    name: str
    base: str
    #: {"files": [[name, size]], ...}: how to split the bytes into files, and their provenance.
    config: Mapping[str, Any]
    metrics: Mapping[str, Any] | None = None
    dataset_sha256: str | None = None
    papers: Sequence[str] = field(default=(), repr=False)


@dataclass(frozen=True)
class Adapter:
    """An adapter's record. `created_at` is in epoch seconds."""

    id: int
    sha256: str
    name: str
    base: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    dataset_sha256: str | None
    state: AdapterState
    created_at: float

    @property
    def files(self) -> list[tuple[str, int]]:
        """Name and size in bytes of each file, in the order of the stored bytes."""
        return [(str(name), int(n_bytes)) for name, n_bytes in self.config["files"]]


#: A second alias of the reviewer table, to compare versions of one reviewer.
_Version = aliased(ReviewerRow)
_COLUMNS = tuple(getattr(Row, part.name) for part in fields(Adapter))


def register(database: Database, new: NewAdapter, content: Iterable[bytes]) -> bool:
    """Store an adapter with its bytes in one transaction; False when it is known already."""
    values = {part.name: getattr(new, part.name) for part in fields(NewAdapter)}
    papers = values.pop("papers")
    try:
        with database.write() as on:
            adapter_id = on.scalar(insert(Row).values(**values).returning(Row.id))
            _store_chunks(on, adapter_id, content)
            owned = [{"adapter_id": adapter_id, "paper_sha256": sha} for sha in sorted({*papers})]
            if owned:
                on.execute(insert(AdapterPaper), owned)
    except IntegrityError:
        if _one(database, Row.sha256 == new.sha256) is None:
            raise
        return False
    return True


def _store_chunks(on: Connection, adapter_id: int | None, content: Iterable[bytes]) -> None:
    # One at a time: an adapter may be 200 MB.
    for position, data in enumerate(_chunks(content)):
        on.execute(
            insert(AdapterChunk), {"adapter_id": adapter_id, "position": position, "data": data}
        )


def _chunks(content: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of CHUNK_BYTES."""
    held = bytearray()
    for piece in content:
        held += piece
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)


def content(database: Database, adapter: Adapter) -> Iterator[bytes]:
    """Yield an adapter's bytes, chunk by chunk, each in a short transaction of its own."""
    chunk = select(AdapterChunk.data).where(AdapterChunk.adapter_id == adapter.id)
    position = 0
    while True:
        with database.read() as on:
            data = on.scalar(chunk.where(AdapterChunk.position == position))
        if data is None:
            return
        yield data
        position += 1


def papers(database: Database, adapter: Adapter) -> frozenset[str]:
    """SHA-256 of the papers that it was trained on, which must not be used to judge it."""
    query = select(AdapterPaper.paper_sha256).where(AdapterPaper.adapter_id == adapter.id)
    with database.read() as on:
        return frozenset(on.scalars(query))


def find(database: Database, sha256: str) -> Adapter | None:
    """The adapter with this SHA-256; None when there is none."""
    return _one(database, Row.sha256 == sha256)


def named(database: Database, prefix: str) -> Adapter:
    """The adapter whose SHA-256 has this prefix. Raises UserError unless there is exactly one."""
    query = select(*_COLUMNS).where(Row.sha256.startswith(prefix, autoescape=True)).limit(2)
    with database.read() as on:
        found = [_adapter(row) for row in on.execute(query).mappings()]
    if len(found) == 1:
        return found[0]
    problem = "Several adapters have a" if found else "No adapter has a"
    raise UserError(f"{problem} SHA-256 that begins with {prefix!r}: see `referee adapter list`.")


def listing(database: Database) -> list[Adapter]:
    """All adapters, oldest first."""
    with database.read() as on:
        rows = on.execute(select(*_COLUMNS).order_by(Row.id)).mappings()
        return [_adapter(row) for row in rows]


def promote(database: Database, sha256: str) -> bool:
    """Mark it as used by a reviewer. False when it is retired or unknown."""
    return _set_state(database, sha256, "promoted", Row.state != "retired")


def demote(database: Database, sha256: str) -> bool:
    """Mark it as unused. False when a reviewer in force uses it, or it is retired."""
    return _set_state(database, sha256, "registered", Row.state == "promoted", ~_in_use(sha256))


def retire(database: Database, sha256: str) -> bool:
    """Bar it from new use; its reviews are kept. False when a reviewer in force uses it."""
    return _set_state(database, sha256, "retired", ~_in_use(sha256))


def _in_use(sha256: str) -> ColumnElement[bool]:
    """Whether a reviewer's version in force uses this adapter."""
    later = select(ReviewerRow.id).where(
        ReviewerRow.name == _Version.name, ReviewerRow.in_force_at > _Version.in_force_at
    )
    return exists().where(
        _Version.config["adapter_sha256"].as_string() == sha256,
        _Version.in_force_at.is_not(None),
        ~later.correlate(_Version).exists(),
    )


def _set_state(
    database: Database, sha256: str, state: AdapterState, *conditions: ColumnElement[bool]
) -> bool:
    change = update(Row).where(Row.sha256 == sha256, *conditions).values(state=state)
    with database.write() as on:
        return on.execute(change).rowcount == 1


def _one(database: Database, which: ColumnElement[bool]) -> Adapter | None:
    with database.read() as on:
        row = on.execute(select(*_COLUMNS).where(which)).mappings().first()
    return None if row is None else _adapter(row)


def _adapter(row: RowMapping) -> Adapter:
    return Adapter(**{part.name: row[part.name] for part in fields(Adapter)})
