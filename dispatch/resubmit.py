"""`referee retry BATCH --input DIR`: new files for failed papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from db import batch_control, batch_papers, batch_records
from db.session import Database
from dispatch.progress import Progress
from dispatch.submission import doorbell_for, limits, new_paper, read_for, under_way
from papers.reading import Reading, discover
from settings import Settings


@dataclass(frozen=True)
class Resubmitted:
    """Number of queued files, and of `ignored` ones, which belong to no chosen failed paper;
    `unreadable` has (custom_id, sentence) of the unreadable ones."""

    queued: int
    ignored: int
    unreadable: tuple[tuple[str, str], ...]


def resubmit(
    folder: Path,
    database: Database,
    settings: Settings,
    batch_name: str,
    custom_ids: Sequence[str] | None,
    progress: Progress,
) -> Resubmitted:
    """Read files for failed papers of a batch, by custom_id, and queue the readable ones.

    Other papers of the batch are not changed. Raises UserError for an
    unknown or cancelled batch, and for a folder without papers.
    """
    wanted = batch_control.failed_custom_ids(database, batch_name)
    if custom_ids is not None:
        wanted &= set(custom_ids)
    entries = discover((str(folder),), limits=limits(settings))
    chosen = [entry for entry in entries if entry.custom_id in wanted]
    batch = batch_records.find_batch(database, batch_name)
    readings = list(read_for(batch, database, chosen, settings, progress))
    good = [reading for reading in readings if reading.paper is not None]
    if good:
        _queue(database, settings, batch_name, good)
    return Resubmitted(
        queued=len(good),
        ignored=len(entries) - len(chosen),
        unreadable=tuple((r.custom_id, r.error or "") for r in readings if r.paper is None),
    )


def _queue(
    database: Database, settings: Settings, batch_name: str, readings: Sequence[Reading]
) -> None:
    batch = batch_records.reopen_batch(database, batch_name)
    with under_way(database, batch):
        for start in range(0, len(readings), settings.submit_chunk):
            chunk = readings[start : start + settings.submit_chunk]
            batch_papers.add_papers(database, batch, [new_paper(r) for r in chunk], replace=True)
            # A file with unchanged content is not queued by add_papers.
            batch_control.retry(database, batch_name, [reading.custom_id for reading in chunk])
        batch_records.finish_submit(database, batch)
    doorbell_for(settings, batch)(len(readings))
