"""The papers that adapters were trained on: hashes, source ids and titles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, inspect, select, text

from db.column_types import in_lists
from db.schema import Job, PaperRow
from db.schema_training import AdapterPaper, AdapterRow
from db.session import Database


@dataclass(frozen=True)
class TrainingPapers:
    """Papers that adapters have seen, in training or validation."""

    hashes: frozenset[str]
    source_ids: frozenset[str]
    titles: frozenset[str]


def training_papers(database: Database, adapters: Sequence[str]) -> TrainingPapers:
    """The papers that adapters, by sha256, were trained on; none for unregistered adapters."""
    with database.read() as on:
        hashes = frozenset(
            on.scalars(
                select(AdapterPaper.paper_sha256)
                .join(AdapterRow, AdapterRow.id == AdapterPaper.adapter_id)
                .where(AdapterRow.sha256.in_(adapters))
            )
        )
        configs = on.scalars(select(AdapterRow.config).where(AdapterRow.sha256.in_(adapters))).all()
        here = _papers_with(on, hashes)
        names = set().union(*_source_ids(on, list(here)).values()) if here else set()
    recorded = {name for config in configs for name in _recorded_sources(config)}
    return TrainingPapers(hashes, frozenset(names | recorded), frozenset(here.values()))


def source_ids(database: Database, paper_ids: Sequence[int]) -> dict[int, set[str]]:
    """{paper: its ids at sources and in batches}."""
    with database.read() as on:
        return _source_ids(on, paper_ids)


def _papers_with(on: Connection, hashes: frozenset[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for some in in_lists(sorted(hashes)):
        rows = on.execute(select(PaperRow.id, PaperRow.title).where(PaperRow.sha256.in_(some)))
        found |= {row.id: row.title for row in rows}
    return found


def _source_ids(on: Connection, paper_ids: Sequence[int]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {paper_id: set() for paper_id in paper_ids}
    for some in in_lists(sorted(found)):
        for paper_id, name in on.execute(
            select(Job.paper_id, Job.custom_id).where(Job.paper_id.in_(some))
        ):
            if paper_id is not None:
                found[paper_id].add(name)
    if inspect(on).has_table("origin"):
        for paper_id, name in on.execute(text("SELECT paper_id, source_id FROM origin")):
            if paper_id in found:
                found[paper_id].add(name)
    return found


def _recorded_sources(config: Any) -> list[str]:
    """Source ids of papers in an adapter's config: {"sources": {split: [...]}}."""
    sources = config.get("sources") if isinstance(config, Mapping) else None
    if not isinstance(sources, Mapping):
        return []
    entries = [entry for listed in sources.values() if isinstance(listed, list) for entry in listed]
    return [str(e["id"]) if isinstance(e, Mapping) and "id" in e else str(e) for e in entries]
