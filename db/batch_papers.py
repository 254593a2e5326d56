"""Papers into a batch, a chunk at a time.

A chunk is one transaction of a few statements, whatever it holds, and adding it a second time
changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import NamedTuple

from sqlalchemy import Connection, select

from db.batch_records import Batch
from db.column_types import insert_or_ignore, storable
from db.enqueue import (
    EnqueuedJobs,
    NewJob,
    add_failed_jobs,
    enqueue,
    lock_batch,
    select_named_jobs,
    supersede,
)
from db.flags import replace_flags
from db.paper_contents import PaperContent, store_papers
from db.schema import Job
from db.schema_data import JobInput
from db.session import Database
from papers.paper import Flag

#: Papers that one transaction stores at most: more would hold SQLite's write lock too long.
MAX_PAPERS = 200


@dataclass(frozen=True)
class NewPaper:
    """A submitted file; without content when it could not be read, with the reason."""

    custom_id: str
    source: str
    content: PaperContent | None
    error_kind: str | None = None
    error: str | None = None
    #: Flags of the file, whose words another file with the same paper need not have.
    flags: tuple[Flag, ...] = ()
    #: What the model reads in the paper's place, if it is not the paper.
    input: str | None = None


@dataclass(frozen=True)
class AddResult:
    """What became of a chunk's papers: each is counted once, or its custom_id is in `conflicts`.

    `new` excludes duplicates and unreadable papers; `job_ids` may be claimed now.
    """

    new: int
    known: int
    duplicates: int
    failed: int
    conflicts: tuple[str, ...]
    job_ids: tuple[int, ...]


class StoredJob(NamedTuple):
    """A job that the batch already has for a custom_id."""

    job_id: int
    sample: int
    paper_id: int | None
    attempt: int


@dataclass
class ClassifiedPapers:
    """A chunk's papers by what is to be done with them."""

    known: list[NewPaper] = field(default_factory=list)
    unreadable: list[NewPaper] = field(default_factory=list)
    conflicts: list[NewPaper] = field(default_factory=list)
    superseding: list[NewPaper] = field(default_factory=list)
    readable: list[NewPaper] = field(default_factory=list)


def add_papers(
    database: Database,
    batch: Batch,
    papers: Sequence[NewPaper],
    *,
    kind: str = "review",
    replace: bool = False,
) -> AddResult:
    """Store at most MAX_PAPERS papers and their jobs in one transaction.

    A custom_id that the batch has with other content is a conflict, or with `replace` gets the new
    content: its job is queued again and a review of the old content is kept. A paper that could
    not be read before and can be now is queued.

    Raises UserError when the batch was cancelled meanwhile, ValueError for too many papers.
    """
    if len(papers) > MAX_PAPERS:
        raise ValueError(f"{len(papers)} papers in one chunk, at most {MAX_PAPERS} are allowed")
    chunk = [_cleaned(paper) for paper in papers]
    with database.write() as on:
        batch_columns = lock_batch(on, batch)
        paper_ids = store_papers(on, [paper.content for paper in chunk if paper.content])
        stored = _stored(on, batch, chunk)
        classified = _classify(chunk, stored, paper_ids, replace)
        supersede(
            on, [job.job_id for paper in classified.superseding for job in stored[paper.custom_id]]
        )
        failures = _failure_rows(batch, classified.unreadable, kind)
        add_failed_jobs(on, batch, batch_columns, failures)
        readable = classified.superseding + classified.readable
        tasks = _new_jobs(batch, readable, stored, paper_ids, kind)
        queued = enqueue(on, batch, batch_columns, tasks)
        replace_flags(on, batch.id, _flags(classified, stored))
        _store_inputs(on, batch, chunk)
    return _added(batch, classified, queued)


def add_jobs(database: Database, batch: Batch, jobs: Sequence[NewJob]) -> int:
    """Queue at most MAX_PAPERS jobs about stored papers; return how many may be claimed now.

    Those that the batch already has, by custom_id and sample, stay as they are. Raises UserError
    when the batch was cancelled meanwhile, ValueError for too many jobs.
    """
    if len(jobs) > MAX_PAPERS:
        raise ValueError(f"{len(jobs)} jobs in one chunk, at most {MAX_PAPERS} are allowed")
    with database.write() as on:
        batch_columns = lock_batch(on, batch)
        names = {job.custom_id for job in jobs}
        rows = on.execute(select_named_jobs(on, batch.id, names)).all()
        known = {(row.custom_id, row.sample) for row in rows}
        new = [job for job in jobs if (job.custom_id, job.sample) not in known]
        return len(enqueue(on, batch, batch_columns, new).originals)


def _flags(
    classified: ClassifiedPapers, stored: Mapping[str, Sequence[StoredJob]]
) -> dict[str, Sequence[Flag]]:
    """The flags of the files that jobs now stand for, where there are any to store or replace.

    A known paper gets those of the file that it came with now; a file that was refused, or could
    not be read while the batch has the paper, changes nothing.
    """
    read = [paper for paper in classified.known if paper.content is not None]
    files = [*classified.superseding, *classified.readable, *classified.unreadable, *read]
    flags: dict[str, Sequence[Flag]] = {}
    for paper in files:
        if paper.flags or paper.custom_id in stored:
            flags.setdefault(paper.custom_id, paper.flags)
    return flags


def _store_inputs(on: Connection, batch: Batch, chunk: Sequence[NewPaper]) -> None:
    """Keep the inputs of the chunk's jobs, duplicates' too; one that is there stays."""
    inputs = {paper.custom_id: paper.input for paper in chunk if paper.input is not None}
    jobs = on.execute(
        select(Job.id, Job.custom_id).where(
            Job.batch_id == batch.id, Job.custom_id.in_(inputs), Job.paper_id.is_not(None)
        )
    ).all()
    rows = [
        {
            "job_id": job_id,
            "sha256": hashlib.sha256((inputs[custom_id] or "").encode()).hexdigest(),
            "text": inputs[custom_id],
        }
        for job_id, custom_id in jobs
    ]
    if rows:
        on.execute(insert_or_ignore(on, JobInput), rows)


def known_custom_ids(database: Database, batch: Batch) -> dict[str, str]:
    """Give {custom_id: source} of the papers that are stored and need not be read again."""
    query = select(Job.custom_id, Job.source).where(
        Job.batch_id == batch.id, Job.sample == 0, Job.paper_id.is_not(None)
    )
    with database.read() as on:
        return dict(on.execute(query).all())


def _cleaned(paper: NewPaper) -> NewPaper:
    return replace(paper, custom_id=storable(paper.custom_id))


def _stored(on: Connection, batch: Batch, chunk: Sequence[NewPaper]) -> dict[str, list[StoredJob]]:
    rows = on.execute(select_named_jobs(on, batch.id, {paper.custom_id for paper in chunk})).all()
    found: dict[str, list[StoredJob]] = {}
    for custom_id, job_id, sample, paper_id, attempt in sorted(rows, key=itemgetter(1)):
        job = StoredJob(job_id, sample, paper_id, attempt)
        found.setdefault(custom_id, []).append(job)
    return found


def _classify(
    chunk: Sequence[NewPaper],
    stored: Mapping[str, Sequence[StoredJob]],
    paper_ids: Mapping[str, int],
    may_replace: bool,
) -> ClassifiedPapers:
    classified = ClassifiedPapers()
    firsts: dict[str, NewPaper] = {}
    for paper in chunk:
        first = firsts.setdefault(paper.custom_id, paper)
        if first is not paper:
            (classified.known if first.content == paper.content else classified.conflicts).append(
                paper
            )
            continue
        paper_id = paper_ids[paper.content.sha256] if paper.content else None
        if paper.custom_id not in stored:
            group = classified.unreadable if paper_id is None else classified.readable
        else:
            held = stored[paper.custom_id][0].paper_id
            group = _group_of_known(classified, held, paper_id, may_replace)
        group.append(paper)
    return classified


def _group_of_known(
    classified: ClassifiedPapers, held: int | None, paper_id: int | None, may_replace: bool
) -> list[NewPaper]:
    if paper_id is None or paper_id == held:
        return classified.known
    if held is None:
        return classified.readable
    return classified.superseding if may_replace else classified.conflicts


def _new_jobs(
    batch: Batch,
    papers: Sequence[NewPaper],
    stored: Mapping[str, Sequence[StoredJob]],
    paper_ids: Mapping[str, int],
    kind: str,
) -> list[NewJob]:
    jobs = {(name, job.sample): job for name, found in stored.items() for job in found}
    tasks = []
    for paper in papers:
        assert paper.content is not None
        for sample in range(batch.options.samples):
            job = jobs.get((paper.custom_id, sample))
            tasks.append(
                NewJob(
                    paper.custom_id,
                    sample,
                    paper.source,
                    paper_ids[paper.content.sha256],
                    None if job is None else job.job_id,
                    0 if job is None else job.attempt,
                    kind,
                )
            )
    return tasks


def _failure_rows(batch: Batch, papers: Sequence[NewPaper], kind: str) -> list[dict[str, object]]:
    return [
        {
            "kind": kind,
            "custom_id": paper.custom_id,
            "sample": sample,
            "source": paper.source,
            "error_kind": paper.error_kind or "unreadable",
            "error": paper.error or "The paper could not be read.",
        }
        for paper in papers
        for sample in range(batch.options.samples)
    ]


def _added(batch: Batch, classified: ClassifiedPapers, queued: EnqueuedJobs) -> AddResult:
    duplicates = len(queued.duplicates) // batch.options.samples
    return AddResult(
        new=len(classified.superseding) + len(classified.readable) - duplicates,
        known=len(classified.known),
        duplicates=duplicates,
        failed=len(classified.unreadable),
        conflicts=tuple(paper.custom_id for paper in classified.conflicts),
        job_ids=tuple(queued.originals),
    )
