"""How jobs end, and the effect on their duplicates and their batch."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import IntegrityError

from db import batch_control, batch_progress, claims, completion, job_events, reconcile
from db.completion import Cost
from db.job_events import Change
from db.reviews import export, find
from db.schema import Job
from db.session import Database
from errors import UserError
from tests.integration.db.content import (
    a_review,
    claim,
    claim_one,
    paper,
    review_all,
    states,
    submit,
    unreadable,
)


def test_a_review_is_stored_whole_and_the_batch_completes(database: Database) -> None:
    submit(database, "b", paper("a"))
    taken = claim_one(database)
    assert completion.commit_review(
        database, taken, a_review("the \x00 answer", truncated_tokens=7)
    )

    (line,) = export(database, "b")
    assert line.review is not None
    assert line.review.raw == "the \ufffd answer"
    assert [item.title for item in line.review.items] == ["Clear", "Weak"]
    assert line.review.gate == [{"name": "headings", "passed": True}]
    found = batch_progress.status(database, "b")
    assert found.state == "completed"
    assert found.finished_at is not None
    assert (found.prompt_tokens, found.output_tokens, found.truncated_papers) == (100, 20, 1)
    assert found.seconds == 1.5
    assert found.papers_per_hour is not None
    kinds = [event.kind for event in job_events.events(database, taken.job_id)]
    assert kinds == ["queued", "claimed", "succeeded"]


def test_a_review_without_items_is_stored(database: Database) -> None:
    submit(database, "b", paper("a"))
    assert completion.commit_review(database, claim_one(database), a_review(items=()))
    (line,) = export(database, "b")
    assert line.review is not None
    assert line.review.items == ()


def test_failing_keeps_kind_and_sentence(database: Database) -> None:
    submit(database, "b", paper("a"))
    assert completion.fail(database, claim_one(database), kind="refused", sentence="It said no.")
    (line,) = export(database, "b")
    assert (line.state, line.error_kind, line.error) == ("failed", "refused", "It said no.")
    assert batch_progress.status(database, "b").errors == {"refused": 1}


def test_a_released_job_waits_for_its_delay(database: Database) -> None:
    submit(database, "b", paper("a"))
    assert completion.release(
        database, claim_one(database), reason="out of memory", delay_seconds=60
    )
    assert states(database, "b") == {"a": "queued"}
    assert claim(database) is None


def test_a_job_released_too_often_fails(database: Database) -> None:
    submit(database, "b", paper("a"))
    for _ in range(3):
        assert completion.release(database, claim_one(database), reason="engine lost")
    assert claim(database) is None
    (line,) = export(database, "b")
    assert (line.state, line.error_kind) == ("failed", "attempts")
    assert "engine lost" in (line.error or "")
    assert batch_progress.status(database, "b").state == "completed"


def test_draining_uses_up_no_attempt_but_moves_the_fence(database: Database) -> None:
    submit(database, "b", paper("a"))
    for attempt in range(1, 6):
        taken = claim_one(database)
        assert taken.attempt == attempt
        assert completion.release(database, taken, reason="drain", keep_attempt=True)
        assert not completion.commit_review(database, taken, a_review())
    assert states(database, "b") == {"a": "queued"}


def test_rejected_texts_are_kept_as_events(database: Database) -> None:
    submit(database, "b", paper("a"))
    taken = claim_one(database)
    job_events.record_event(database, taken.job_id, 1, "rejected", {"raw": "bad \x00 text"})
    last = job_events.events(database, taken.job_id)[-1]
    assert (last.kind, last.detail) == ("rejected", {"raw": "bad \ufffd text"})


def test_a_duplicate_is_generated_once_and_succeeds_with_its_original(database: Database) -> None:
    submit(database, "b", paper("a", "same"), paper("b", "same"), paper("c", "same"))
    assert review_all(database) == 1
    lines = list(export(database, "b"))
    assert [line.state for line in lines] == ["succeeded"] * 3
    assert len({line.review.id for line in lines if line.review}) == 1
    # A later one gets the review at once.
    submit(database, "b", paper("d", "same"))
    assert states(database, "b")["d"] == "succeeded"
    assert claim(database) is None


def test_a_duplicate_fails_with_its_original(database: Database) -> None:
    submit(database, "b", paper("a", "same"), paper("b", "same"))
    completion.fail(database, claim_one(database), kind="refused", sentence="No.")
    assert states(database, "b") == {"a": "failed", "b": "failed"}
    assert batch_progress.status(database, "b").state == "completed"


def test_cancelling_a_queued_original_promotes_its_duplicate(database: Database) -> None:
    submit(database, "b", paper("a", "same"), paper("b", "same"), paper("c", "same"))
    assert batch_control.cancel(database, "b", ["a"]) == 1
    assert claim_one(database).custom_id == "b"
    assert states(database, "b") == {"a": "cancelled", "b": "running", "c": "queued"}


def test_cancelling_a_running_original_promotes_its_duplicate(database: Database) -> None:
    submit(database, "b", paper("a", "same"), paper("b", "same"))
    taken = claim_one(database)
    batch_control.cancel(database, "b", ["a"])
    renewal = claims.renew(database, worker="w1", held={(taken.job_id, 1)}, lease_seconds=60)
    assert renewal.cancelled == {taken.key}
    assert completion.cancelled(database, taken)
    assert claim_one(database).custom_id == "b"
    assert batch_progress.status(database, "b").state == "in_progress"


def test_replacing_a_reviewed_original_leaves_its_review_to_the_duplicate(
    database: Database,
) -> None:
    submit(database, "b", paper("a", "same"), paper("b", "same"))
    review_all(database)
    submit(database, "b", paper("a", "new"), replace=True)
    lines = {line.custom_id: line for line in export(database, "b")}
    assert lines["b"].state == "succeeded"
    assert lines["b"].review is not None
    assert (lines["a"].state, lines["a"].review) == ("queued", None)
    assert review_all(database) == 1


def test_replacing_a_running_original_hands_its_paper_to_the_duplicate(
    database: Database,
) -> None:
    submit(database, "b", paper("a", "same"), paper("b", "same"), paper("c", "same"))
    stale = claim_one(database)
    submit(database, "b", paper("a", "new"), replace=True)
    assert not completion.commit_review(database, stale, a_review())
    assert review_all(database) == 2
    lines = {line.custom_id: line for line in export(database, "b")}
    assert {line.state for line in lines.values()} == {"succeeded"}
    assert lines["b"].review == lines["c"].review != lines["a"].review


def test_replacing_by_a_known_content_makes_a_duplicate(database: Database) -> None:
    submit(database, "b", paper("a", "x"), paper("b", "y"))
    review_all(database)
    submit(database, "b", paper("b", "x"), replace=True)
    assert states(database, "b") == {"a": "succeeded", "b": "succeeded"}
    lines = list(export(database, "b"))
    assert lines[0].review == lines[1].review


def test_a_released_job_that_was_to_be_cancelled_is_cancelled(database: Database) -> None:
    submit(database, "b", paper("a"))
    taken = claim_one(database)
    batch_control.cancel(database, "b")
    assert batch_progress.status(database, "b").state == "cancelling"
    assert completion.release(database, taken, reason="drain", keep_attempt=True)
    assert states(database, "b") == {"a": "cancelled"}
    assert batch_progress.status(database, "b").state == "cancelled"


def test_cancelling_a_batch_ends_queued_jobs_and_keeps_reviews(database: Database) -> None:
    submit(database, "b", paper("done"), paper("running"), paper("waiting"))
    completion.commit_review(database, claim_one(database), a_review())
    running = claim_one(database)
    assert batch_control.cancel(database, "b") == 2
    assert states(database, "b") == {
        "done": "succeeded",
        "running": "running",
        "waiting": "cancelled",
    }
    # A review that is finished anyway is kept.
    assert completion.commit_review(database, running, a_review())
    assert batch_progress.status(database, "b").state == "cancelled"
    assert batch_control.cancel(database, "b") == 0


def test_retry_gives_all_attempts_back(database: Database) -> None:
    submit(database, "b", paper("a"), paper("b"), unreadable("u"))
    for _ in range(3):
        completion.release(database, claim_one(database), reason="x")
    batch_control.cancel(database, "b", ["b"])
    assert batch_progress.status(database, "b").state == "completed"

    assert batch_control.retry(database, "b") == 2

    assert batch_progress.status(database, "b").state == "in_progress"
    assert states(database, "b") == {"a": "queued", "b": "queued", "u": "failed"}
    for _ in range(2):
        assert completion.release(database, claim_one(database), reason="again")
    assert review_all(database) == 2
    assert batch_progress.status(database, "b").state == "completed"


def test_retrying_a_duplicate_alone_makes_it_the_original(database: Database) -> None:
    submit(database, "b", paper("a", "same"), paper("b", "same"))
    completion.fail(database, claim_one(database), kind="refused", sentence="No.")
    assert batch_control.retry(database, "b", ["b"]) == 1
    assert claim_one(database).custom_id == "b"
    assert states(database, "b") == {"a": "failed", "b": "running"}


def test_retrying_a_cancelled_duplicate_of_a_reviewed_paper_needs_no_work(
    database: Database,
) -> None:
    submit(database, "b", paper("a", "same"), paper("b", "same"))
    batch_control.cancel(database, "b", ["b"])
    review_all(database)
    assert states(database, "b") == {"a": "succeeded", "b": "cancelled"}
    batch_control.retry(database, "b")
    assert states(database, "b") == {"a": "succeeded", "b": "succeeded"}
    assert batch_progress.status(database, "b").state == "completed"


def test_retrying_after_the_deadline_drops_the_deadline(database: Database) -> None:
    submit(database, "b", paper("a"), deadline_seconds=-1.0)
    reconcile.reconcile(database, max_attempts=3)
    assert batch_progress.status(database, "b").state == "expired"
    batch_control.retry(database, "b")
    reconcile.reconcile(database, max_attempts=3)
    assert claim_one(database).custom_id == "a"


@pytest.mark.parametrize("verb", [batch_control.cancel, batch_control.retry])
def test_unknown_batches_and_ids_are_named(database: Database, verb: object) -> None:
    assert callable(verb)
    submit(database, "b", paper("a"))
    with pytest.raises(UserError, match="no batch 'c'"):
        verb(database, "c")
    with pytest.raises(UserError, match=r"no paper with the id x, y"):
        verb(database, "b", ["a", "y", "x"])
    assert states(database, "b") == {"a": "queued"}


def test_every_change_of_state_leaves_an_event(database: Database) -> None:
    submit(database, "b", paper("a"))
    first = claim_one(database)
    completion.release(database, first, reason="engine lost")
    claim_one(database, lease_seconds=-1.0)
    reconcile.reconcile(database, max_attempts=3)
    batch_control.pause(database, "b")
    batch_control.resume(database, "b")
    batch_control.cancel(database, "b")
    batch_control.retry(database, "b")
    completion.fail(database, claim_one(database), kind="k", sentence="s")
    assert [event.kind for event in job_events.events(database, first.job_id)] == [
        *("queued", "claimed", "released", "claimed", "lease_expired", "paused", "resumed"),
        *("cancelled", "retried", "claimed", "failed"),
    ]


def test_a_commit_that_breaks_halfway_leaves_nothing(database: Database) -> None:
    submit(database, "b", paper("a"))
    taken = claim_one(database)
    broken = a_review(items=(a_review().items[0], a_review().items[0]))
    with pytest.raises(Exception, match=r"(?i)unique"):
        completion.commit_review(database, taken, broken)
    assert states(database, "b") == {"a": "running"}
    with database.read() as on:
        assert on.scalar(text("SELECT count(*) FROM review")) == 0
    assert find(database, "a")[0].reviews == ()


def test_any_result_is_stored_with_the_end_of_its_job(database: Database) -> None:
    submit(database, "b", paper("a"))
    stale = claim_one(database, lease_seconds=-1.0)
    taken = claim_one(database)

    def store(on: Connection) -> None:
        job_events.record(on, "stored", [Change(*taken.key)])

    # A worker that lost the job writes nothing, and a result is stored once
    results = [completion.commit(database, claim, Cost(1, 2), store) for claim in (stale, taken)]
    assert [*results, completion.commit(database, taken, Cost(), store)] == [False, True, False]
    kinds = [event.kind for event in job_events.events(database, taken.job_id)]
    assert kinds[-2:] == ["succeeded", "stored"]
    with database.read() as on:
        cost = on.execute(select(Job.n_prompt_tokens, Job.n_output_tokens, Job.seconds)).one()
    assert tuple(cost) == (1, 2, 0.0)


def test_a_result_that_cannot_be_stored_leaves_the_job_running(database: Database) -> None:
    submit(database, "b", paper("a"))

    def store(on: Connection) -> None:
        on.execute(text("INSERT INTO job_event (job_id) VALUES (NULL)"))

    with pytest.raises(IntegrityError):
        completion.commit(database, claim_one(database), Cost(), store)
    assert states(database, "b") == {"a": "running"}
