"""Flags of submitted files, and the venue's canaries among their hidden words.

A flag belongs to a job, because two files with the same visible words are one paper. Words that are
hidden in several papers of a batch are taken for the venue's canary and not for an author's trick.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    cast,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    text,
    update,
)
from sqlalchemy.orm import QueryableAttribute

from db.column_types import among, storable
from db.enqueue import select_named_jobs
from db.job_events import Change, record
from db.schema import Job, JobEvent, JobFlag
from db.session import Database
from papers.paper import HIDDEN_TEXT, Flag

#: One paper in so many of a batch must hide the same words for them to be the venue's canary.
CANARY_ONE_IN = 10
#: Papers; fewer share nothing.
CANARY_PAPERS = 2
#: Error kind of a paper that was rejected for its hidden text.
REJECTED = HIDDEN_TEXT
#: Kind of the event with the flags of a file that was replaced.
REPLACED_EVENT = "flags"


@dataclass(frozen=True)
class FlagView:
    """A flag of a job's file. `papers` of the batch's `of_papers` hide the same words."""

    batch_id: int
    custom_id: str
    kind: str
    detail: str
    page: int | None
    text: str
    papers: int = 0
    of_papers: int = 0

    @property
    def canary(self) -> bool:
        """Whether the words are the venue's."""
        return is_canary(self.papers, self.of_papers)

    def __str__(self) -> str:
        sentence = str(Flag(self.kind, self.detail, self.page))
        if not self.canary:
            return sentence
        return canary_sentence(sentence, self.papers, self.of_papers)


@dataclass(frozen=True)
class Canary:
    """Words that `papers` of the batch's `of_papers` hide."""

    text: str
    papers: int
    of_papers: int


def is_canary(papers: int, of_papers: int) -> bool:
    """Whether words that so many papers of a batch hide are the venue's canary."""
    return papers >= CANARY_PAPERS and papers * CANARY_ONE_IN >= of_papers


def canary_sentence(flag: str, papers: int, of_papers: int) -> str:
    """The sentence of a flag whose words are the venue's."""
    return f"canary: {flag}; {papers} of the batch's {of_papers} papers hide the same words"


def replace_flags(on: Connection, batch_id: int, files: Mapping[str, Sequence[Flag]]) -> None:
    """Give the jobs of these custom_ids the flags of the files that they were read from.

    Those of a file that was read before are kept in an event of the job.
    """
    rows = on.execute(select_named_jobs(on, batch_id, set(files))).all()
    jobs = {row.id: (row.attempt, files[row.custom_id]) for row in rows}
    before = _stored(on, jobs)
    changed = [
        job_id
        for job_id, (_, flags) in sorted(jobs.items())
        if before.get(job_id, []) != _rows(job_id, flags)
    ]
    if not changed:
        return
    on.execute(delete(JobFlag).where(among(on, JobFlag.job_id, changed)))
    for job_id in changed:
        attempt, flags = jobs[job_id]
        kinds = list(dict.fromkeys(flag.kind for flag in flags))
        on.execute(update(Job).where(Job.id == job_id).values(flags=kinds, n_flags=len(flags)))
        if job_id in before:
            record(on, REPLACED_EVENT, [Change(job_id, attempt)], detail={"before": before[job_id]})
    new = [row for job_id in changed for row in _rows(job_id, jobs[job_id][1])]
    if new:
        on.execute(insert(JobFlag), new)


def flags_of(on: Connection, job_ids: Collection[int]) -> dict[int, list[FlagView]]:
    """{job id: its flags}, for those that have some."""
    query = (
        select(Job.id, Job.batch_id, Job.custom_id, *_SHOWN, JobFlag.words_sha256)
        .join(JobFlag, JobFlag.job_id == Job.id)
        .where(among(on, Job.id, job_ids))
        .order_by(Job.id, JobFlag.position)
    )
    rows = on.execute(query).all()
    canaries = {batch_id: canaries_of(on, batch_id) for batch_id in {row.batch_id for row in rows}}
    found: dict[int, list[FlagView]] = {}
    for job_id, batch_id, custom_id, *shown, sha256 in rows:
        canary = canaries[batch_id].get(sha256)
        shares = (canary.papers, canary.of_papers) if canary else ()
        found.setdefault(job_id, []).append(FlagView(batch_id, custom_id, *shown, *shares))
    return found


def canaries_of(on: Connection, batch_id: int) -> dict[str | None, Canary]:
    """The venue's canaries in a batch by `words_sha256`."""
    papers = func.count(_paper().distinct())
    query = (
        select(JobFlag.words_sha256, func.min(JobFlag.text), papers)
        .join(Job, Job.id == JobFlag.job_id)
        .where(Job.batch_id == batch_id, _FLAGGED)
        .where(JobFlag.kind == HIDDEN_TEXT, JobFlag.words_sha256.is_not(None))
        .group_by(JobFlag.words_sha256)
        .having(papers >= CANARY_PAPERS)
        .order_by(papers.desc(), JobFlag.words_sha256)
    )
    shared = on.execute(query).all()
    if not shared:
        return {}
    was_read = Job.paper_id.is_not(None) | (Job.error_kind == REJECTED)
    size = on.scalar(select(papers).where(Job.batch_id == batch_id, was_read)) or 0
    return {sha256: Canary(words, n, size) for sha256, words, n in shared if is_canary(n, size)}


def canary_words(database: Database, batch_id: int) -> frozenset[str]:
    """The `words_sha256` of the venue's canaries in a batch."""
    with database.read() as on:
        return frozenset(words for words in canaries_of(on, batch_id) if words is not None)


def count_flagged(
    on: Connection, batch_id: int, words: Collection[str | None], *, canary: bool
) -> int:
    """Count the custom_ids of a batch with a flag that has, or has not, the words of a canary."""
    shared = func.coalesce(JobFlag.words_sha256.in_(list(words)), False)
    # A purged job has no flags any more, only their number.
    counted = shared if canary else JobFlag.job_id.is_(None) | ~shared
    return (
        on.scalar(
            select(func.count(Job.custom_id.distinct()))
            .outerjoin(JobFlag, JobFlag.job_id == Job.id)
            .where(Job.batch_id == batch_id, _FLAGGED, counted)
        )
        or 0
    )


def forget_words(on: Connection, job_ids: Collection[int]) -> None:
    """Delete what the flags of purged jobs say; kind, page and hash stay."""
    emptied = update(JobFlag).where(among(on, JobFlag.job_id, job_ids))
    on.execute(emptied.values(detail="", text=""))
    of_jobs = among(on, JobEvent.job_id, job_ids)
    events = update(JobEvent).where(of_jobs, JobEvent.kind == REPLACED_EVENT)
    on.execute(events.values(detail=null()))


#: A literal, because SQLite uses the partial index only for exactly its own condition.
_FLAGGED = text("job.n_flags > 0")
_SHOWN: tuple[QueryableAttribute[Any], ...] = (
    JobFlag.kind,
    JobFlag.detail,
    JobFlag.page,
    JobFlag.text,
)


def _paper() -> ColumnElement[str]:
    """What tells papers apart: a paper that was rejected is not stored and has its name only."""
    return func.coalesce(cast(Job.paper_id, Text), literal("rejected ") + Job.custom_id)


def _rows(job_id: int, flags: Sequence[Flag]) -> list[dict[str, Any]]:
    return [
        {
            "job_id": job_id,
            "position": position,
            "kind": flag.kind,
            "detail": storable(flag.detail),
            "page": flag.page,
            "text": storable(flag.text),
            "words_sha256": flag.words_sha256,
        }
        for position, flag in enumerate(flags)
    ]


def _stored(on: Connection, job_ids: Collection[int]) -> dict[int, list[dict[str, Any]]]:
    query = (
        select(*(JobFlag.__table__.columns))
        .where(among(on, JobFlag.job_id, job_ids))
        .order_by(JobFlag.job_id, JobFlag.position)
    )
    found: dict[int, list[dict[str, Any]]] = {}
    for row in on.execute(query).mappings():
        found.setdefault(row["job_id"], []).append(dict(row))
    return found
