"""Checks after a siege: submitted, generated and stored papers must agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select

from db.schema import Job, ReviewRow
from db.session import Database


class Attempt(NamedTuple):
    """One attempt at a job, identified by its fencing number."""

    job: int
    attempt: int


@dataclass(frozen=True)
class FinalJob:
    """Final state of a job."""

    job: int
    custom_id: str
    state: str
    attempt: int
    paper: int
    error_kind: str | None


@dataclass(frozen=True)
class SiegeRecord:
    """The data that is checked. `reviews` holds (job, paper) of every stored review;
    `exported` the lines of `referee export`; `interrupted` what was in flight at each kill, freeze,
    partition and death by a deadly paper.
    """

    submitted: frozenset[str]
    bad: frozenset[str]
    jobs: Sequence[FinalJob]
    reviews: Sequence[tuple[int | None, int]]
    exported: Sequence[Mapping[str, Any]]
    starts: Sequence[Attempt]
    interrupted: Sequence[frozenset[Attempt]]


@dataclass(frozen=True)
class InvariantReport:
    """Counts; `violations` is empty when all invariants hold."""

    states: dict[str, int]
    reviews: int
    lost: int
    doubled: int
    stuck: int
    starts: int
    starts_by_purpose: dict[str, int]
    wasted: int
    in_flight_when_struck: int
    violations: list[str]


def check_invariants(record: SiegeRecord) -> InvariantReport:
    """Check all invariants."""
    lost, doubled = _lost(record), _doubled(record)
    stuck = [job.custom_id for job in record.jobs if job.state in ("queued", "running")]
    purposes = _purposes(record)
    purpose_counts = Counter(purposes.values())
    in_flight = sum(map(len, record.interrupted))
    violations = [
        *(f"lost: {name}" for name in lost),
        *(f"doubled: {name}" for name in doubled),
        *(f"stuck: {name}" for name in stuck),
        *(f"wrong end: {sentence}" for sentence in _wrong_ends(record)),
        *(f"generated for nothing: {a}" for a, why in purposes.items() if why == "unexplained"),
        *(f"generated twice: {a}" for a, n in Counter(record.starts).items() if n > 1),
    ]
    wasted = purpose_counts["struck"] + purpose_counts["unexplained"]
    if wasted > in_flight:
        violations.append(f"{wasted} wasted generations, {in_flight} in flight when struck")
    return InvariantReport(
        states=dict(Counter(job.state for job in record.jobs)),
        reviews=len(record.reviews),
        lost=len(lost),
        doubled=len(doubled),
        stuck=len(stuck),
        starts=len(record.starts),
        starts_by_purpose=dict(purpose_counts),
        wasted=wasted,
        in_flight_when_struck=in_flight,
        violations=violations,
    )


def _lost(record: SiegeRecord) -> list[str]:
    """Papers without a job or an export line, or marked as succeeded without a review."""
    reviewed = {job for job, _ in record.reviews}
    jobs = {job.custom_id: job for job in record.jobs}
    lines = {line["custom_id"]: line for line in record.exported}
    gone = {name for name in record.submitted if name not in jobs or name not in lines}
    empty = {j.custom_id for j in record.jobs if j.state == "succeeded" and j.job not in reviewed}
    bare = {n for n, line in lines.items() if line["state"] == "succeeded" and not line["review"]}
    return sorted(gone | empty | bare)


def _doubled(record: SiegeRecord) -> list[str]:
    """Papers with two jobs, lines or reviews, and reviews without a succeeded job."""
    succeeded = {job.job for job in record.jobs if job.state == "succeeded"}
    papers = Counter(paper for _, paper in record.reviews)
    return [
        *(n for n, times in Counter(j.custom_id for j in record.jobs).items() if times > 1),
        *(n for n, times in Counter(e["custom_id"] for e in record.exported).items() if times > 1),
        *(f"paper {paper}" for paper, times in papers.items() if times > 1),
        *(f"review of job {job}" for job, _ in record.reviews if job not in succeeded),
    ]


def _wrong_ends(record: SiegeRecord) -> list[str]:
    """A bad paper may only fail, for its attempts; any other is reviewed or was cancelled, unless
    strikes took every attempt that it had."""
    interrupted = Counter(
        attempt.job for attempt in frozenset[Attempt]().union(*record.interrupted)
    )
    wrong = []
    for job in record.jobs:
        allowed = ["cancelled", "queued", "running"]
        if job.custom_id not in record.bad:
            allowed.append("succeeded")
        if job.custom_id in record.bad or interrupted[job.job] >= MOST_ATTEMPTS:
            allowed.append("failed")
        if job.state not in allowed:
            wrong.append(f"{job.custom_id} {job.state} ({job.error_kind})")
    return wrong


#: Attempts that a job has, by the settings' default.
MOST_ATTEMPTS = 3
_GOOD_ENDS = ("succeeded", "cancelled")


def _purposes(record: SiegeRecord) -> dict[Attempt, str]:
    """Purpose of each generation."""
    jobs = {job.job: job for job in record.jobs}
    interrupted = frozenset[Attempt]().union(*record.interrupted)
    return {
        start: _purpose(start, jobs[start.job], record.bad, interrupted) for start in record.starts
    }


def _purpose(
    start: Attempt, job: FinalJob, bad: frozenset[str], interrupted: frozenset[Attempt]
) -> str:
    last = start.attempt == job.attempt
    if job.custom_id in bad:
        return "bad paper"
    if last and job.state in _GOOD_ENDS:
        return "review" if job.state == "succeeded" else "cancelled"
    return "struck" if start in interrupted else "unexplained"


def read_jobs(database: Database) -> list[FinalJob]:
    """All jobs of the database."""
    columns = (Job.id, Job.custom_id, Job.state, Job.attempt, Job.paper_id, Job.error_kind)
    with database.read() as on:
        return [
            FinalJob(job_id, custom_id, state, attempt, paper_id or 0, error_kind)
            for job_id, custom_id, state, attempt, paper_id, error_kind in on.execute(
                select(*columns).order_by(Job.id)
            )
        ]


def read_reviews(database: Database) -> list[tuple[int | None, int]]:
    """(job, paper) of all reviews."""
    with database.read() as on:
        return [
            (job, paper) for job, paper in on.execute(select(ReviewRow.job_id, ReviewRow.paper_id))
        ]


def read_starts(ledger: Path) -> list[Attempt]:
    """Every generation that an engine began, re-samples included as the same attempt's."""
    lines: Iterable[str] = ledger.read_text().splitlines() if ledger.exists() else ()
    starts = (line.split()[1].split(".") for line in lines if line.startswith("start "))
    return [Attempt(int(job), int(attempt)) for job, attempt, _ in starts]
