"""Deletes what papers and reviews say and keeps what happened.

Hashes, events, counts, scores, ids and kinds of errors stay; the words go: papers' texts, raw
answers, items, the points and reasons that judges drew from them, answers that the gate rejected,
inputs of mergers, and the sentences of errors, in which a server may have quoted a paper.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, null, or_, select, update

from db.batch_control import choose
from db.duplicates import LIVE
from db.flags import forget_words
from db.schema import ItemRow, Job, JobEvent, PaperRow, PurgedPaper, ReviewRow
from db.schema_data import JobInput
from db.schema_judging import PointMatch, PointRow, Verdict
from db.session import Database
from errors import UserError

#: Jobs that one transaction purges: more would hold SQLite's write lock too long.
CHUNK = 200
#: What stands in the place of an error's sentence.
PURGED_ERROR = "The sentence was purged."
#: Keys of an event's detail that hold sentences.
_SENTENCES = ("error", "reason")


@dataclass(frozen=True)
class Purge:
    """What a purge deletes, or would delete. `shared` papers keep their text, because jobs that
    were not chosen, or were queued again meanwhile, have them too."""

    papers: int = 0
    shared: int = 0
    reviews: int = 0
    rejected_answers: int = 0

    def __add__(self, other: Purge) -> Purge:
        names = [part.name for part in fields(self)]
        return Purge(**{name: getattr(self, name) + getattr(other, name) for name in names})


def purge(
    database: Database,
    name: str,
    custom_ids: Sequence[str] | None = None,
    *,
    keep_reviews: bool = False,
    dry_run: bool = False,
) -> Purge:
    """Delete the words of a batch, or of some of its papers; return what is gone.

    Works in chunks: one that was killed goes on when it is run again. Raises UserError for an
    unknown batch or custom_id, and while chosen papers wait or run.
    """
    with database.read() as on:
        jobs = _jobs(on, name, custom_ids)
    chosen = frozenset(jobs)
    total = Purge()
    for start in range(0, len(jobs), CHUNK):
        chunk = jobs[start : start + CHUNK]
        with database.read() if dry_run else database.write() as on:
            total += _purge(on, chunk, chosen, keep_reviews=keep_reviews, dry_run=dry_run)
    if not dry_run:
        _scrub(database)
    return total


def sources(database: Database, name: str, custom_ids: Sequence[str] | None = None) -> list[str]:
    """Name the files that the chosen papers were read from."""
    with database.read() as on:
        _, chosen = choose(on, name, custom_ids)
        query = select(Job.source).where(Job.id.in_(chosen)).distinct().order_by(Job.source)
        return list(on.scalars(query))


def _jobs(on: Connection, name: str, custom_ids: Sequence[str] | None) -> list[int]:
    # By paper, so that the jobs of one paper are purged together.
    _, chosen = choose(on, name, custom_ids)
    _refuse_live(on, Job.id.in_(chosen))
    return list(on.scalars(chosen.order_by(Job.paper_id, Job.id)))


def _refuse_live(on: Connection, which: ColumnElement[bool]) -> None:
    live = on.scalar(select(func.count()).where(which, Job.state.in_(LIVE)))
    if live:
        raise UserError(f"{live} of these papers still wait or run: cancel them, or wait.")


def _purge(
    on: Connection,
    jobs: Sequence[int],
    chosen: frozenset[int],
    *,
    keep_reviews: bool,
    dry_run: bool,
) -> Purge:
    if on.dialect.name == "sqlite" and not dry_run:
        # Deleted words are overwritten in the file, not only unlinked.
        on.exec_driver_sql("PRAGMA secure_delete = ON")
    papers = _lock_papers(on, jobs, dry_run)
    _refuse_live(on, Job.id.in_(jobs))
    shared = {
        paper_id
        for job_id, paper_id, state, reads_text in on.execute(
            select(Job.id, Job.paper_id, Job.state, Job.about.is_(None)).where(
                Job.paper_id.in_(papers)
            )
        )
        if (job_id not in chosen and reads_text) or state in LIVE
    }
    gone = [paper_id for paper_id in papers if paper_id not in shared]
    reviews = [] if keep_reviews else _reviews(on, jobs, gone)
    rejected = [] if keep_reviews else _rejected(on, jobs)
    if not dry_run:
        _empty_papers(on, gone)
        _empty_inputs(on, jobs, gone)
        forget_words(on, jobs)
        on.execute(update(JobInput).where(JobInput.job_id.in_(jobs)).values(text=""))
        _empty_reviews(on, reviews)
        _empty_events(on, rejected)
        _empty_errors(on, jobs)
    return Purge(len(gone), len(shared), len(reviews), len(rejected))


def _lock_papers(on: Connection, jobs: Sequence[int], dry_run: bool) -> list[int]:
    """Papers that still have their text. Locked: a submit that wants one waits, and restores it;
    a retry waits, and leaves it."""
    of_jobs = select(Job.paper_id).where(Job.id.in_(jobs))
    purged = select(PurgedPaper.paper_id)
    query = select(PaperRow.id).where(PaperRow.id.in_(of_jobs), PaperRow.id.not_in(purged))
    query = query.order_by(PaperRow.id)
    return list(on.scalars(query if dry_run else query.with_for_update(of=PaperRow)))


def _reviews(on: Connection, jobs: Sequence[int], papers: Sequence[int]) -> list[tuple[int, str]]:
    """(id, raw) of the jobs' reviews, and of those that the papers had before a replacement."""
    superseded = ReviewRow.paper_id.in_(papers) & ReviewRow.job_id.is_(None)
    mine = or_(ReviewRow.job_id.in_(jobs), superseded & ReviewRow.external_id.is_(None))
    rows = on.execute(select(ReviewRow.id, ReviewRow.raw).where(mine, ReviewRow.raw != ""))
    return [(review_id, raw) for review_id, raw in rows]


def _rejected(on: Connection, jobs: Sequence[int]) -> list[tuple[int, Any]]:
    query = select(JobEvent.id, JobEvent.detail).where(
        JobEvent.job_id.in_(jobs), JobEvent.kind == "rejected"
    )
    rows = on.execute(query)
    return [(event_id, detail) for event_id, detail in rows if "text" in (detail or {})]


def _empty_papers(on: Connection, papers: Sequence[int]) -> None:
    if not papers:
        return
    empty = {"title": "", "abstract": "", "body": "", "sections": []}
    on.execute(update(PaperRow).where(PaperRow.id.in_(papers)).values(**empty))
    on.execute(insert(PurgedPaper), [{"paper_id": paper_id} for paper_id in papers])


def _empty_inputs(on: Connection, jobs: Sequence[int], papers: Sequence[int]) -> None:
    """What jobs read in a paper's place goes with the paper."""
    gone = select(Job.id).where(Job.id.in_(jobs), Job.paper_id.in_(papers))
    on.execute(update(JobInput).where(JobInput.job_id.in_(gone)).values(text=""))


def _empty_reviews(on: Connection, reviews: Sequence[tuple[int, str]]) -> None:
    if not reviews:
        return
    ids = [review_id for review_id, _ in reviews]
    kept = select(ReviewRow.id, ReviewRow.versions, ReviewRow.gate).where(ReviewRow.id.in_(ids))
    about = {review_id: (versions, gate) for review_id, versions, gate in on.execute(kept)}
    on.execute(
        _EMPTY_REVIEW,
        [
            {
                "b_id": review_id,
                "b_versions": {**about[review_id][0], "raw_sha256": _sha256(raw)},
                # A check's detail may quote the answer.
                "b_gate": [{**check, "detail": ""} for check in about[review_id][1]],
            }
            for review_id, raw in reviews
        ],
    )
    # Rows stay: how many items an aspect has is a number, not a word.
    on.execute(update(ItemRow).where(ItemRow.review_id.in_(ids)).values(title="", text=""))
    points = select(PointRow.id).where(PointRow.review_id.in_(ids))
    matches = or_(
        PointMatch.generated_point_id.in_(points), PointMatch.reference_point_id.in_(points)
    )
    on.execute(update(PointMatch).where(matches).values(rationale=""))
    on.execute(update(PointRow).where(PointRow.review_id.in_(ids)).values(text=""))
    papers = select(ReviewRow.paper_id).where(ReviewRow.id.in_(ids))
    on.execute(update(Verdict).where(Verdict.paper_id.in_(papers)).values(rationale=""))


_EMPTY_REVIEW = (
    update(ReviewRow)
    .where(ReviewRow.id == bindparam("b_id"))
    .values(
        raw="",
        unplaced="",
        fields=null(),
        versions=bindparam("b_versions"),
        gate=bindparam("b_gate"),
    )
)


def _empty_events(on: Connection, events: Sequence[tuple[int, Any]]) -> None:
    rows = [
        {
            "b_id": event_id,
            "b_detail": {
                "failed": detail.get("failed", ""),
                "text_sha256": _sha256(detail["text"]),
            },
        }
        for event_id, detail in events
    ]
    if rows:
        change = update(JobEvent).where(JobEvent.id == bindparam("b_id"))
        on.execute(change.values(detail=bindparam("b_detail")), rows)


def _empty_errors(on: Connection, jobs: Sequence[int]) -> None:
    failed = Job.id.in_(jobs) & Job.error.is_not(None)
    on.execute(update(Job).where(failed).values(error=PURGED_ERROR))
    events = select(JobEvent.id, JobEvent.detail).where(
        JobEvent.job_id.in_(jobs), JobEvent.detail.is_not(None)
    )
    rows = [
        {
            "b_id": event_id,
            "b_detail": {
                key: PURGED_ERROR if key in _SENTENCES else value for key, value in detail.items()
            },
        }
        for event_id, detail in on.execute(events)
        if any(key in _SENTENCES for key in detail)
    ]
    if rows:
        change = update(JobEvent).where(JobEvent.id == bindparam("b_id"))
        on.execute(change.values(detail=bindparam("b_detail")), rows)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _scrub(database: Database) -> None:
    """Let go of old copies of the rows: SQLite's log, PostgreSQL's dead tuples."""
    connection = database.engine.raw_connection()
    try:
        if database.dialect == "sqlite":
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return
        driver: Any = connection.driver_connection
        driver.rollback()
        driver.autocommit = True
        driver.execute("VACUUM paper, job_input, job_flag, review, item, point, job_event")
        driver.autocommit = False
    finally:
        connection.close()
