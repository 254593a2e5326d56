"""Many threads at one database: every job is claimed once, nothing is written twice."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text

from db import batches, jobs
from db.batches import BatchOptions
from db.session import Database, open_database
from tests.integration.db.content import a_review, a_reviewer, claim, must_claim, paper, submit


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
        claims = [must_claim(database), must_claim(database)]
        with ThreadPoolExecutor(2) as pool:
            assert all(pool.map(lambda c: jobs.commit_review(database, c, a_review()), claims))
        assert batches.status(database, name).state == "completed"


def test_one_commit_wins_of_many(database: Database) -> None:
    submit(database, "b", paper("a"))
    taken = must_claim(database)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(
            pool.map(lambda n: jobs.commit_review(database, taken, a_review(str(n))), range(8))
        )
    assert sum(outcomes) == 1
    with database.read() as on:
        assert on.scalar(text("SELECT count(*) FROM review")) == 1


def test_two_submits_of_the_same_papers_store_them_once(database: Database) -> None:
    batch = batches.open_batch(database, "b", a_reviewer(database), BatchOptions())
    papers = [paper(str(n), str(n // 2)) for n in range(100)]
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda _: batches.add_papers(database, batch, papers), range(4)))
    assert sum(one.new for one in added) == 50
    assert sum(one.duplicates for one in added) == 50
    assert batches.status(database, "b").counts["total"] == 100


def test_operators_and_workers_do_not_deadlock(database: Database) -> None:
    submit(database, "b", *(paper(str(n), str(n // 2)) for n in range(60)))

    def work(name: str) -> None:
        while (job := claim(database, name)) is not None:
            jobs.renew(database, worker=name, held={job.key}, lease_seconds=60)
            jobs.commit_review(database, job, a_review())

    def operate() -> None:
        for _ in range(5):
            batches.pause(database, "b")
            batches.cancel(database, "b", ["10", "30", "50"])
            batches.retry(database, "b")
            jobs.reconcile(database, max_attempts=3)
            batches.resume(database, "b")

    with ThreadPoolExecutor(4) as pool:
        started = [pool.submit(work, f"w{n}") for n in range(3)] + [pool.submit(operate)]
        for one in started:
            one.result(timeout=60)
    batches.retry(database, "b")
    work("last")
    assert batches.status(database, "b").counts["succeeded"] == 60
