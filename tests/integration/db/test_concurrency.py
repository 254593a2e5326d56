"""Many threads on one database: every job is claimed once, nothing is written twice."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from db import (
    batch_control,
    batch_papers,
    batch_progress,
    batch_records,
    claims,
    completion,
    reconcile,
)
from db.batch_records import BatchOptions
from db.session import Database, open_database
from tests.integration.db.content import a_review, a_reviewer, claim, claim_one, paper, submit


def test_eight_workers_claim_200_jobs_once_each(database: Database, database_url: str) -> None:
    submit(database, "b", *(paper(str(n)) for n in range(200)))

    def work(name: str) -> list[int]:
        # As many processes would: each with connections of its own.
        mine = open_database(database_url, max_connections=1)
        taken = []
        while (job := claim(mine, name)) is not None:
            taken.append(job.job_id)
        mine.close()
        return taken

    with ThreadPoolExecutor(8) as pool:
        found = [job for taken in pool.map(work, (f"w{n}" for n in range(8))) for job in taken]

    assert len(found) == 200
    assert set(Counter(found).values()) == {1}


def test_the_last_two_commits_at_once_still_complete_the_batch(database: Database) -> None:
    for name in "abcdefgh":
        submit(database, name, paper("1"), paper("2"))
        claims = [claim_one(database), claim_one(database)]
        with ThreadPoolExecutor(2) as pool:
            assert all(
                pool.map(lambda c: completion.commit_review(database, c, a_review()), claims)
            )
        assert batch_progress.status(database, name).state == "completed"


def test_one_commit_wins_of_many(database: Database) -> None:
    submit(database, "b", paper("a"))
    taken = claim_one(database)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(
            pool.map(
                lambda n: completion.commit_review(database, taken, a_review(str(n))), range(8)
            )
        )
    assert sum(outcomes) == 1
    with database.read() as on:
        assert on.scalar(text("SELECT count(*) FROM review")) == 1


def test_two_submits_of_the_same_papers_store_them_once(database: Database) -> None:
    batch = batch_records.open_batch(database, "b", a_reviewer(database), BatchOptions())
    papers = [paper(str(n), str(n // 2)) for n in range(100)]
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda _: batch_papers.add_papers(database, batch, papers), range(4)))
    assert sum(one.new for one in added) == 50
    assert sum(one.duplicates for one in added) == 50
    assert batch_progress.status(database, "b").counts["total"] == 100


def test_operators_and_workers_do_not_deadlock(database: Database) -> None:
    submit(database, "b", *(paper(str(n), str(n // 2)) for n in range(60)))

    def work(name: str) -> None:
        while (job := claim(database, name)) is not None:
            claims.renew(database, worker=name, held={job.key}, lease_seconds=60)
            completion.commit_review(database, job, a_review())

    def operate() -> None:
        for _ in range(5):
            batch_control.pause(database, "b")
            batch_control.cancel(database, "b", ["10", "30", "50"])
            batch_control.retry(database, "b")
            reconcile.reconcile(database, max_attempts=3)
            batch_control.resume(database, "b")

    with ThreadPoolExecutor(4) as pool:
        started = [pool.submit(work, f"w{n}") for n in range(3)] + [pool.submit(operate)]
        for one in started:
            one.result(timeout=60)
    batch_control.retry(database, "b")
    work("last")
    assert batch_progress.status(database, "b").counts["succeeded"] == 60
