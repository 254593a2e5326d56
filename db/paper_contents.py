"""Texts of papers, stored once per content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update

import papers.paper
from db.column_types import insert_or_ignore, storable
from db.schema import Job, PaperRow, PurgedPaper
from db.session import Database


@dataclass(frozen=True)
class PaperContent:
    """A paper as read. `sections` are [{"heading", "n_chars"}], `body` is what a model sees."""

    sha256: str
    title: str
    abstract: str
    body: str
    sections: Sequence[Any]

    @classmethod
    def of(cls, paper: papers.paper.Paper) -> PaperContent:
        """Convert a paper as read into what is stored of it."""
        return cls(
            sha256=paper.sha256,
            title=paper.title,
            abstract=paper.abstract,
            body=paper.text,
            sections=tuple({"heading": s.heading, "n_chars": len(s.text)} for s in paper.sections),
        )


_COLUMNS = (
    PaperRow.sha256,
    PaperRow.title,
    PaperRow.abstract,
    PaperRow.body,
    PaperRow.sections,
)
#: Papers that one query reads.
_CHUNK = 200


def contents_named(database: Database, custom_id: str) -> list[PaperContent]:
    """The papers that any batch has under this custom_id, or that have this SHA-256, by id."""
    name = storable(custom_id)
    named = select(Job.paper_id).where(Job.custom_id == name)
    with database.read() as on:
        query = select(*_COLUMNS).where(PaperRow.id.in_(named) | (PaperRow.sha256 == name))
        rows = on.execute(query.order_by(PaperRow.id)).mappings()
        return [PaperContent(**row) for row in rows]


def contents_by_id(database: Database, paper_ids: Sequence[int]) -> dict[int, PaperContent]:
    """{paper id: content} of the papers."""
    found: dict[int, PaperContent] = {}
    with database.read() as on:
        for start in range(0, len(paper_ids), _CHUNK):
            query = select(PaperRow.id, *_COLUMNS).where(
                PaperRow.id.in_(paper_ids[start:][:_CHUNK])
            )
            for row in map(dict, on.execute(query).mappings()):
                paper_id = row.pop("id")
                found[paper_id] = PaperContent(**row)
    return found


def store_papers(on: Connection, contents: Iterable[PaperContent]) -> dict[str, int]:
    """Store the papers that are new; return {sha256: paper id} of all of them.

    The text of a purged paper is restored.
    """
    by_hash = {content.sha256: content for content in contents}
    known = _ids(on, by_hash)
    if known:
        _restore(on, known, by_hash)
    # Sorted, so that two transactions that store the same papers cannot deadlock.
    missing = [vars(by_hash[sha256]) for sha256 in sorted(by_hash.keys() - known)]
    if not missing:
        return known
    on.execute(insert_or_ignore(on, PaperRow), missing)
    return _ids(on, by_hash)


def _restore(on: Connection, known: Mapping[str, int], by_hash: Mapping[str, PaperContent]) -> None:
    query = delete(PurgedPaper).where(PurgedPaper.paper_id.in_(known.values()))
    purged = set(on.scalars(query.returning(PurgedPaper.paper_id)))
    for sha256, paper_id in known.items():
        if paper_id in purged:
            on.execute(
                update(PaperRow).where(PaperRow.id == paper_id).values(**vars(by_hash[sha256]))
            )


def _ids(on: Connection, hashes: Iterable[str]) -> dict[str, int]:
    # Locked against a purge, which would otherwise delete the text that a new job needs.
    query = (
        select(PaperRow.sha256, PaperRow.id)
        .where(PaperRow.sha256.in_(list(hashes)))
        .order_by(PaperRow.id)
        .with_for_update(read=True, key_share=True)
    )
    return dict(on.execute(query).all())
