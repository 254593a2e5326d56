"""Reconcile repairs the state that ended workers left, also from several workers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from db import batch_control, batch_progress, completion, reconcile
from db.reviews import export
from db.session import Database
from tests.integration.db.content import (
    QUEUE,
    a_review,
    a_reviewer,
    claim_one,
    paper,
    review_all,
    states,
    submit,
)


def requeued(database: Database) -> dict[str, int]:
    return reconcile.reconcile(database, max_attempts=3)


def test_jobs_of_dead_workers_are_queued_again_and_counted(database: Database) -> None:
    submit(database, "b", paper("a"), paper("b"), paper("c"), paper("twin", "c"))
    claim_one(database, lease_seconds=-1.0)
    claim_one(database)
    assert requeued(database) == {QUEUE: 2}
    assert states(database, "b")["a"] == "queued"
    assert states(database, "b")["b"] == "running"


def test_process_that_was_disconnected_does_not_expire_leases(database: Database) -> None:
    submit(database, "b", paper("a"))
    held = claim_one(database, lease_seconds=-1.0)
    # The permission to expire leases is checked after the database has answered.
    assert reconcile.reconcile(database, max_attempts=3, may_take_over=lambda: False) == {}
    assert completion.commit_review(database, held, a_review())


def test_paper_that_crashes_its_workers_becomes_a_dead_letter(database: Database) -> None:
    submit(database, "b", paper("poison"), paper("twin", "poison"))
    for _ in range(2):
        claim_one(database, lease_seconds=-1.0)
        requeued(database)
    lines = list(export(database, "b"))
    assert {(line.state, line.error_kind) for line in lines} == {("failed", "crash")}
    assert "poison was alone in the engine 2 times" in (lines[0].error or "")
    assert batch_progress.status(database, "b").state == "completed"
    assert requeued(database) == {}


def test_drained_attempts_do_not_count_as_crashes(database: Database) -> None:
    submit(database, "b", paper("a"))
    for _ in range(4):
        completion.release(database, claim_one(database), reason="drain", keep_attempt=True)
    claim_one(database, lease_seconds=-1.0)
    assert requeued(database) == {QUEUE: 1}


def test_a_cancelled_job_of_a_dead_worker_ends_and_its_duplicate_runs(database: Database) -> None:
    submit(database, "b", paper("a", "same"), paper("b", "same"))
    claim_one(database, lease_seconds=-1.0)
    batch_control.cancel(database, "b", ["a"])
    assert requeued(database) == {QUEUE: 1}
    assert claim_one(database).custom_id == "b"


def test_a_cancelling_batch_of_a_dead_worker_ends(database: Database) -> None:
    submit(database, "b", paper("a"))
    claim_one(database, lease_seconds=-1.0)
    batch_control.cancel(database, "b")
    requeued(database)
    assert batch_progress.status(database, "b").state == "cancelled"


def test_unfinished_jobs_expire_and_finished_ones_stay(database: Database) -> None:
    submit(
        database,
        "b",
        *(paper("done"), paper("twin", "done"), paper("late"), paper("late2", "late")),
        deadline_seconds=3600.0,
    )
    completion.commit_review(database, claim_one(database), a_review())
    with database.write() as on:
        on.execute(text("UPDATE batch SET deadline_at = 1"))
        on.execute(text("UPDATE job SET deadline_at = 1"))
    assert requeued(database) == {}
    assert states(database, "b") == {
        "done": "succeeded",
        "twin": "succeeded",
        "late": "expired",
        "late2": "expired",
    }
    assert batch_progress.status(database, "b").state == "expired"


def test_a_batch_left_open_by_a_crash_is_closed(database: Database) -> None:
    submit(database, "b", paper("a"))
    review_all(database)
    with database.write() as on:
        on.execute(text("UPDATE batch SET state = 'in_progress', finished_at = NULL"))
    requeued(database)
    assert batch_progress.status(database, "b").state == "completed"


def test_only_what_could_be_claimed_now_is_counted(database: Database) -> None:
    submit(database, "b", paper("a"), paper("held"))
    submit(database, "paused", paper("p"))
    submit(database, "cpu", paper("c"), reviewer=a_reviewer(database, "api", queue="cpu"))
    batch_control.pause(database, "paused")
    completion.release(database, claim_one(database), reason="x", delay_seconds=60)
    assert requeued(database) == {QUEUE: 1, "cpu": 1}
    # A job that was queued just now still has its message in transit.
    assert reconcile.reconcile(database, max_attempts=3, grace_seconds=60) == {}


def test_many_workers_reconcile_at_once(database: Database) -> None:
    submit(database, "b", *(paper(str(n)) for n in range(40)))
    for _ in range(40):
        claim_one(database, lease_seconds=-1.0)
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: requeued(database), range(8)))
    assert counts[-1] == {QUEUE: 40}
    with database.read() as on:
        expired = text("SELECT count(*) FROM job_event WHERE kind = 'lease_expired'")
        assert on.scalar(expired) == 40


def test_a_lease_that_runs_out_during_a_reconcile_gets_no_attempt_too_many(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a paper at its last attempt, whose lease expires after jobs without attempts were failed
    submit(database, "b", paper("a"))
    claim_one(database, lease_seconds=-1.0)
    change = reconcile._change

    def late(on: Any, kind: str, which: Any, values: dict[str, Any]) -> list[int]:
        return change(on, kind, which, values) if kind == "lease_expired" else []

    with monkeypatch.context() as patched:
        patched.setattr(reconcile, "_change", late)
        reconcile.reconcile(database, max_attempts=1)
    # Then it is not queued again, and the next reconcile fails it
    assert states(database, "b") == {"a": "running"}
    reconcile.reconcile(database, max_attempts=1)
    assert states(database, "b") == {"a": "failed"}
