"""A purge deletes texts and keeps the history; a submit restores the texts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from db import (
    batch_control,
    batch_papers,
    batch_progress,
    batch_records,
    claims,
    completion,
    job_events,
    purging,
    reconcile,
)
from db.completion import Cost
from db.enqueue import NewJob
from db.reviews import export, find
from db.schema_data import JobInput
from db.session import Database, open_database
from errors import UserError
from tests.integration.db.content import (
    a_review,
    claim,
    claim_one,
    paper,
    review_all,
    states,
    submit,
)
from tests.site import wait_until

WORDS = "quixotic zeppelin"


def numbers(database: Database) -> dict[str, Any]:
    """How many rows each table has."""
    tables = ("paper", "job", "job_event", "review", "item")
    with database.read() as on:
        return {t: on.scalar(text(f"SELECT count(*) FROM {t}")) for t in tables}


def said(database: Database) -> str:
    """All output of the read functions about a batch and its paper."""
    lines = [str(line) for line in export(database, "b", with_text=True)]
    history = [
        str(e) for line in export(database, "b") for e in job_events.events(database, line.job)
    ]
    with database.read() as on:
        inputs = list(on.scalars(select(JobInput.text)))
    return "\n".join([*lines, *history, *inputs])


def a_finished_batch(database: Database) -> None:
    submit(database, "b", paper("a", WORDS), paper("b"))
    taken = claim_one(database)
    with database.write() as on:
        on.execute(
            insert(JobInput).values(job_id=taken.job_id, sha256="f" * 64, text=f"read {WORDS}")
        )
    job_events.record_event(database, taken.job_id, 1, "rejected", {"failed": "x", "text": WORDS})
    assert completion.commit_review(database, taken, a_review(f"raw {WORDS}"))
    review_all(database)


def test_dry_run_reports_and_deletes_nothing(database: Database) -> None:
    a_finished_batch(database)
    before = said(database)
    found = purging.purge(database, "b", dry_run=True)
    assert (found.papers, found.shared, found.reviews, found.rejected_answers) == (2, 0, 2, 1)
    assert said(database) == before


def test_purge_deletes_texts_and_keeps_hashes_events_and_numbers(database: Database) -> None:
    a_finished_batch(database)
    before, rows = states(database, "b"), numbers(database)
    hashes = [line.paper_sha256 for line in export(database, "b")]
    assert purging.purge(database, "b").papers == 2
    assert WORDS not in said(database)
    assert "baseline" not in said(database)
    assert states(database, "b") == before
    assert numbers(database) == rows
    assert [line.paper_sha256 for line in export(database, "b")] == hashes
    # A second purge finds nothing left
    assert purging.purge(database, "b") == purging.Purge()


def test_purge_deletes_sentences_of_errors_and_keeps_their_kinds(database: Database) -> None:
    submit(database, "b", paper("failed", "x"), paper("retried", "y"))
    failing, retried = claim_one(database), claim_one(database)
    assert completion.release(database, retried, reason=f"500 {WORDS}", keep_attempt=True)
    assert completion.fail(database, failing, kind="bad_request", sentence=f"400 {WORDS}")
    review_all(database)

    purging.purge(database, "b", keep_reviews=True)

    assert WORDS not in said(database)
    line = next(line for line in export(database, "b") if line.state == "failed")
    assert (line.error_kind, line.error) == ("bad_request", purging.PURGED_ERROR)


def test_deleted_texts_are_removed_from_the_database_file(
    migrated_sqlite: Path, tmp_path: Path
) -> None:
    file = tmp_path / "referee.db"
    shutil.copy(migrated_sqlite, file)
    database = open_database(f"sqlite:///{file}")
    a_finished_batch(database)
    folder = [*file.parent.glob(file.name + "*")]
    assert any(WORDS.encode() in part.read_bytes() for part in folder)
    purging.purge(database, "b")
    assert not any(WORDS.encode() in part.read_bytes() for part in folder if part.exists())
    database.close()


def test_papers_of_other_batches_keep_their_text(database: Database) -> None:
    a_finished_batch(database)
    submit(database, "other", paper("x", WORDS))
    found = purging.purge(database, "b")
    assert (found.papers, found.shared) == (1, 1)
    assert claim_one(database).text == WORDS


def test_single_papers_are_purged_and_may_keep_their_reviews(database: Database) -> None:
    a_finished_batch(database)
    found = purging.purge(database, "b", ["a"], keep_reviews=True)
    assert (found.papers, found.reviews) == (1, 0)
    a, b = export(database, "b", with_text=True)
    assert (a.text, b.text) == ("", "b")
    assert a.review is not None
    assert a.review.raw == f"raw {WORDS}"


def test_queued_and_running_papers_are_not_purged(database: Database) -> None:
    submit(database, "b", paper("a"))
    with pytest.raises(UserError, match="still wait or run"):
        purging.purge(database, "b")


def test_submit_restores_the_text_of_purged_papers(database: Database) -> None:
    # Given a cancelled paper that was purged
    submit(database, "b", paper("a", WORDS))
    batch_control.cancel(database, "b", ["a"])
    purging.purge(database, "b")
    # Then it cannot be retried, because it has no text
    assert batch_control.retry(database, "b") == 0
    assert batch_control.without_text(database, "b") == 1
    # When the file is submitted again
    submit(database, "again", paper("a", WORDS))
    # Then the paper has its text, for both batches
    assert claim_one(database).text == WORDS
    assert [p.title for p in find(database, "a")] == [f"On {WORDS}"]
    assert batch_control.retry(database, "b") == 1


@contextmanager
def locked(database: Database, rows: str) -> Iterator[None]:
    """Hold a lock on these rows in another transaction."""
    with database.write() as on:
        on.execute(text(f"SELECT 1 FROM {rows} FOR UPDATE"))
        yield


def waiting(database: Database) -> int:
    """Statements that wait for a lock."""
    with database.read() as on:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return on.scalar(text(query)) or 0


def a_batch_to_purge_or_retry(database: Database) -> None:
    submit(database, "b", paper("a", WORDS), paper("b"))
    batch_control.cancel(database, "b", ["a"])
    review_all(database)


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_a_retry_waits_for_a_purge_and_finds_no_text(database: Database) -> None:
    a_batch_to_purge_or_retry(database)
    with ThreadPoolExecutor(2) as threads:
        # Given a purge that has found no unfinished jobs and is blocked before its commit
        with locked(database, "review"):
            purge = threads.submit(purging.purge, database, "b")
            wait_until(lambda: waiting(database) == 1)
            # When the cancelled paper is retried
            retry = threads.submit(batch_control.retry, database, "b")
            wait_until(lambda: waiting(database) == 2 or retry.done())
        # Then it is unchanged
        assert purge.result().papers == 2
        assert retry.result() == 0
    assert states(database, "b") == {"a": "cancelled", "b": "succeeded"}


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_a_purge_waits_for_a_retry_and_leaves_its_text(database: Database) -> None:
    a_batch_to_purge_or_retry(database)
    with ThreadPoolExecutor(2) as threads:
        # Given a retry that is blocked before its commit
        with locked(database, "batch"):
            retry = threads.submit(batch_control.retry, database, "b")
            wait_until(lambda: waiting(database) == 1)
            # When the batch is purged
            purge = threads.submit(purging.purge, database, "b")
            wait_until(lambda: waiting(database) == 2 or purge.done())
        # Then nothing is deleted
        assert retry.result() == 1
        with pytest.raises(UserError, match="still wait or run"):
            purge.result()
    assert claim_one(database).text == WORDS


def test_a_sample_that_is_retried_between_two_chunks_keeps_its_text(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a paper's first sample in one chunk and its second, cancelled, in the next
    submit(database, "b", paper("a", WORDS), samples=2)
    assert completion.commit_review(database, claim_one(database), a_review())
    batch_control.cancel(database, "b")
    monkeypatch.setattr(purging, "CHUNK", 1)
    found = purging._jobs

    # When a retry comes after the purge has chosen its jobs
    def chosen(*which: Any) -> list[int]:
        jobs_found = found(*which)
        with ThreadPoolExecutor(1) as another:
            assert another.submit(batch_control.retry, database, "b").result() == 1
        return jobs_found

    monkeypatch.setattr(purging, "_jobs", chosen)
    with pytest.raises(UserError, match="still wait or run"):
        purging.purge(database, "b")
    # Then the second sample is still read
    assert claim_one(database).text == WORDS


def test_all_batches_are_paused_and_resumed_at_once(database: Database) -> None:
    for name in ("one", "two", "over"):
        submit(database, name, paper(name))
    batch_control.cancel(database, "over")
    batch_control.pause(database, "one")
    assert batch_control.pause_all(database) == ["two"]
    assert claim(database) is None
    assert batch_control.resume_all(database) == ["one", "two"]
    assert claim_one(database).batch_name == "one"


def test_deadline_ends_queued_and_running_jobs(database: Database) -> None:
    # Given a finished, a running and a waiting paper, and a deadline that passes
    batch = submit(database, "b", paper("a"), paper("b"), paper("c"), deadline_seconds=3600.0)
    assert completion.commit_review(database, claim_one(database), a_review())
    running = claim_one(database)
    with database.write() as on:
        on.execute(text("UPDATE batch SET deadline_at = 1"))
        on.execute(text("UPDATE job SET deadline_at = 1"))
    # When only a status command runs
    reconcile.expire_deadlines(database)
    # Then the finished job stays, the others expire, and the late review is refused
    assert states(database, "b") == {"a": "succeeded", "b": "expired", "c": "expired"}
    assert batch_progress.status(database, "b").state == "expired"
    renewal = claims.renew(database, worker="w1", held={(running.job_id, 1)}, lease_seconds=60)
    assert renewal.lost == {running.key}
    assert not completion.commit_review(database, running, a_review())
    # And a retry removes the deadline
    assert batch_control.retry(database, batch.name) == 2
    assert len([claim(database), claim(database)]) == 2


def test_a_job_that_does_not_read_a_papers_text_does_not_keep_it(database: Database) -> None:
    # Given a reviewed paper that also has a judge's job
    submit(database, "b", paper("a", WORDS))
    review = claim_one(database)
    assert completion.commit_review(database, review, a_review())
    judging = submit(database, "judging")
    job = NewJob("a", 0, "here", review.paper_id, kind="judge", about={"comparison": 1})
    opened = batch_records.reopen_batch(database, judging.name)
    assert batch_papers.add_jobs(database, opened, [job]) == 1
    assert completion.commit(database, claim_one(database), Cost(), lambda _: None)
    # Then the paper is purged with its batch
    done = purging.purge(database, "b")
    assert (done.papers, done.shared) == (1, 0)
