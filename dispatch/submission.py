"""`referee submit` as one call: from paths to queued jobs.

A submit may be killed at any moment and run again: what was stored is found by its custom_id, what
was read is in the reading cache, and no paper gets a second job.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from db import batch_papers, batch_records, flags, open_submits
from db.batch_papers import NewPaper
from db.batch_records import Batch, BatchOptions
from db.paper_contents import PaperContent
from db.session import Database
from dispatch import broker, hidden_text, roster
from dispatch.app import make_app
from dispatch.doorbell import ring
from dispatch.dry_run import Describer, counts, without_texts
from dispatch.progress import Progress
from errors import MissingPart
from models.text.cost import check_cost_limit
from papers.reading import Entry, Reading, discover, read_all
from papers.reading_cache import ReadingCache
from papers.sandbox import PdfLimits
from settings import Settings

RingDoorbell = Callable[[int], bool]

#: Names on the command line and numbers in the database; lower is served first.
PRIORITIES = {"high": 0, "normal": 1, "low": 2}


@dataclass(frozen=True)
class SubmitInput:
    """What the user named: paths, globs, "-" for standard input, and perhaps a manifest."""

    paths: tuple[str, ...]
    manifest: Path | None = None
    stdin: TextIO | None = None


@dataclass(frozen=True)
class SubmitResult:
    """What a submit did, as a document, with warnings for its user."""

    batch: str
    queue: str
    document: dict[str, Any]
    warnings: Sequence[str]
    exit_code: int


@dataclass
class _Tally:
    #: One description a paper: at conference size the papers themselves would not fit in memory.
    lines: list[dict[str, Any]] = field(default_factory=list)
    new: int = 0
    known: int = 0
    conflicts: list[str] = field(default_factory=list)
    announced: bool = True


def submit_papers(
    source: SubmitInput,
    database: Database,
    settings: Settings,
    *,
    batch_name: str,
    reviewer_name: str,
    options: BatchOptions,
    progress: Progress,
    replace: bool = False,
    max_usd: float | None = None,
) -> SubmitResult:
    """Store papers as jobs of a batch, in chunks, and send doorbells after each commit.

    With `max_usd` all papers are read first, and none is stored if they may cost more.
    """
    entries = discover(source.paths, source.manifest, source.stdin, limits(settings))
    version, config = roster.resolve(database, reviewer_name)
    roster.check_may_send(config, settings, options.allow_external)
    if max_usd is not None and config.endpoint is not None:
        n_papers, n_chars = _size(
            hidden_text.apply(options.on_hidden_text, lambda: read(entries, settings, progress))
        )
        check_cost_limit(config, n_chars * options.samples, n_papers * options.samples, max_usd)
    batch = batch_records.open_batch(database, batch_name, version, options)
    with under_way(database, batch):
        papers = read_for(batch, database, entries, settings, progress)
        tally = _store(
            database, batch, papers, settings.submit_chunk, doorbell_for(settings, batch), replace
        )
        batch_records.finish_submit(database, batch)
    return _outcome(batch, tally)


def read_for(
    batch: Batch,
    database: Database,
    entries: Sequence[Entry],
    settings: Settings,
    progress: Progress,
) -> Iterator[Reading]:
    """Read papers as the batch gets them, hidden text stripped, rejected or kept."""
    known = flags.canary_words(database, batch.id)
    what = batch.options.on_hidden_text
    return hidden_text.apply(what, lambda: read(entries, settings, progress), known)


@contextmanager
def under_way(database: Database, batch: Batch) -> Iterator[None]:
    """Keep other submits from ending the batch while papers are read, and no longer.

    A thread renews the lease: reading one paper may take longer than it.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(database, batch, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(MissingPart):
            open_submits.leave(database, batch.submit_id)


def _renew(database: Database, batch: Batch, ended: threading.Event) -> None:
    while not ended.wait(open_submits.LEASE_SECONDS / 3):
        with suppress(MissingPart):  # the next chunk or the next round finds the database again
            open_submits.keep(database, batch.submit_id)


def limits(settings: Settings) -> PdfLimits:
    """The limits of one file by the settings."""
    return PdfLimits(settings.pdf_seconds, settings.pdf_pages, settings.pdf_memory_mib)


def read(entries: Sequence[Entry], settings: Settings, progress: Progress) -> Iterator[Reading]:
    """Read papers in order; what was read before comes from the cache."""
    with ReadingCache(settings.home / "cache") as cache:
        yield from read_all(
            entries,
            cache=cache,
            limits=limits(settings),
            processes=os.cpu_count() or 1,
            progress=progress,
        )


def _size(papers: Iterable[Reading]) -> tuple[int, int]:
    """How many papers can be read, and their characters together."""
    lengths = [len(reading.paper.text) for reading in papers if reading.paper is not None]
    return len(lengths), sum(lengths)


def _store(
    database: Database,
    batch: Batch,
    papers: Iterable[Reading],
    chunk_size: int,
    announce: RingDoorbell,
    replace: bool,
) -> _Tally:
    tally, describer = _Tally(), Describer()
    for chunk in _chunks(papers, chunk_size):
        new_papers = [new_paper(reading) for reading in chunk]
        added = batch_papers.add_papers(database, batch, new_papers, replace=replace)
        tally.lines.extend(without_texts(describer.line(reading)) for reading in chunk)
        tally.new += added.new
        tally.known += added.known
        tally.conflicts.extend(added.conflicts)
        tally.announced = announce(len(added.job_ids)) and tally.announced
    return tally


def _chunks(papers: Iterable[Reading], size: int) -> Iterator[Sequence[Reading]]:
    iterator = iter(papers)
    while chunk := tuple(islice(iterator, size)):
        yield chunk


def new_paper(reading: Reading) -> NewPaper:
    """A reading in the form that the database stores."""
    return NewPaper(
        custom_id=reading.custom_id,
        source=reading.source,
        content=None if reading.paper is None else PaperContent.of(reading.paper),
        error_kind=reading.error_kind,
        error=reading.error,
        flags=reading.rejected_flags if reading.paper is None else reading.paper.flags,
    )


def doorbell_for(settings: Settings, batch: Batch) -> RingDoorbell:
    """Return a function that sends n doorbells; False if no broker can be reached now.

    A broker that failed to answer once is not tried again: each try waits for it, and reconcile
    sends doorbells.
    """
    found = broker.find(settings)
    if found is None or not found.answers():
        return lambda times: times == 0
    app = make_app(found.url, settings)
    answers = True

    def announce(times: int) -> bool:
        nonlocal answers
        answers = answers and ring(app, batch.reviewer.queue, times, batch=batch.name)
        return answers or times == 0

    return announce


def _outcome(batch: Batch, tally: _Tally) -> SubmitResult:
    lines = tally.lines
    document = {"batch": batch.name, "jobs": tally.new, "papers": lines, "counts": counts(lines)}
    exit_code = 2 if tally.conflicts else 1 if counts(lines)["failed"] else 0
    return SubmitResult(batch.name, batch.reviewer.queue, document, _warnings(tally), exit_code)


def _warnings(tally: _Tally) -> list[str]:
    warnings = []
    if tally.known:
        warnings.append(f"{tally.known} papers were in the batch already and stay as they are.")
    if tally.conflicts:
        names = ", ".join(tally.conflicts[:5]) + (" ..." if len(tally.conflicts) > 5 else "")
        warnings.append(
            f"{len(tally.conflicts)} custom_ids have other content than before and were refused "
            f"({names}): use --replace to supersede them."
        )
    if not tally.announced:
        warnings.append("No broker was reached; the papers are stored and a worker will find them.")
    return warnings
