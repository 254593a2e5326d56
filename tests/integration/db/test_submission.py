"""Submitting papers: chunks, resumption, conflicts, unreadable papers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from db import (
    batch_control,
    batch_papers,
    batch_progress,
    batch_records,
    completion,
    open_submits,
    reconcile,
    reviewers,
)
from db.batch_papers import NewPaper
from db.batch_records import BatchOptions
from db.reviews import find
from db.session import Database
from errors import UserError
from tests.integration.db.content import (
    a_review,
    a_reviewer,
    claim,
    claim_one,
    content,
    paper,
    review_all,
    states,
    submit,
    unreadable,
)


def test_a_chunk_is_stored_once_however_often_it_is_added(database: Database) -> None:
    batch = batch_records.open_batch(database, "b", a_reviewer(database), BatchOptions())
    chunk = [paper("a"), paper("b"), paper("c", "b"), unreadable("d")]

    first = batch_papers.add_papers(database, batch, chunk)
    again = batch_papers.add_papers(database, batch, chunk)

    assert (first.new, first.duplicates, first.failed, first.known) == (2, 1, 1, 0)
    assert len(first.job_ids) == 2
    assert (again.new, again.duplicates, again.failed, again.known) == (0, 0, 0, 4)
    assert again.job_ids == ()
    assert states(database, "b") == {"a": "queued", "b": "queued", "c": "queued", "d": "failed"}


def test_workers_start_while_the_batch_is_still_validating(database: Database) -> None:
    batch = batch_records.open_batch(database, "b", a_reviewer(database), BatchOptions())
    batch_papers.add_papers(database, batch, [paper("a")])

    taken = claim_one(database)
    assert completion.commit_review(database, taken, a_review())

    # All its jobs have ended, but more papers may follow.
    assert batch_progress.status(database, "b").state == "validating"
    batch_records.finish_submit(database, batch)
    assert batch_progress.status(database, "b").state == "completed"


def test_a_claim_carries_what_a_worker_needs(database: Database) -> None:
    reviewer = a_reviewer(database)
    submit(database, "b", paper("a", "quarks"), allow_external=True)
    taken = claim_one(database)
    assert (taken.batch_name, taken.custom_id, taken.sample) == ("b", "a", 0)
    assert (taken.title, taken.text, taken.attempt) == ("On quarks", "quarks", 1)
    assert taken.reviewer == reviewer
    assert taken.allow_external


def test_the_same_submit_gives_the_same_seeds(database: Database) -> None:
    submit(database, "b", paper("a"), samples=2)
    seeds = {claim_one(database).seed, claim_one(database).seed}
    assert len(seeds) == 2
    submit(database, "b", paper("a", "other text"), samples=2, replace=True)
    assert {claim_one(database).seed, claim_one(database).seed} == seeds


def test_other_content_under_a_known_id_is_a_conflict(database: Database) -> None:
    batch = submit(database, "b", paper("a", "old"))
    added = batch_papers.add_papers(database, batch, [paper("a", "new")])
    assert added.conflicts == ("a",)
    assert (added.new, added.known) == (0, 0)
    assert claim_one(database).text == "old"


def test_two_contents_under_one_id_in_one_chunk_are_a_conflict(database: Database) -> None:
    batch = batch_records.open_batch(database, "b", a_reviewer(database), BatchOptions())
    added = batch_papers.add_papers(
        database, batch, [paper("a", "x"), paper("a", "x"), paper("a", "y")]
    )
    assert (added.new, added.known, added.conflicts) == (1, 1, ("a",))


def test_replace_queues_the_new_content_and_keeps_the_old_review(database: Database) -> None:
    # Given a reviewed paper
    submit(database, "b", paper("a", "old"))
    review_all(database)
    # When its id is submitted with other content
    batch = batch_records.open_batch(database, "b", a_reviewer(database), BatchOptions())
    added = batch_papers.add_papers(database, batch, [paper("a", "new")], replace=True)
    batch_records.finish_submit(database, batch)
    # Then the job is queued again, with all its attempts, and the old review is still there
    assert added.new == 1
    assert states(database, "b") == {"a": "queued"}
    assert claim_one(database).text == "new"
    assert len(find(database, content("old").sha256)[0].reviews) == 1


def test_replace_takes_the_paper_from_a_running_worker(database: Database) -> None:
    submit(database, "b", paper("a", "old"))
    stale = claim_one(database)
    submit(database, "b", paper("a", "new"), replace=True)
    assert not completion.commit_review(database, stale, a_review())
    fresh = claim_one(database, "w2")
    assert fresh.text == "new"
    assert fresh.attempt > stale.attempt


def test_replace_can_swap_two_papers_in_one_chunk(database: Database) -> None:
    batch = submit(database, "b", paper("a", "x"), paper("b", "y"))
    added = batch_papers.add_papers(
        database, batch, [paper("a", "y"), paper("b", "x")], replace=True
    )
    assert added.new == 2
    found = {taken.custom_id: taken.text for taken in (claim_one(database), claim_one(database))}
    assert found == {"a": "y", "b": "x"}


def test_an_unreadable_paper_is_a_dead_letter_until_it_can_be_read(database: Database) -> None:
    batch = submit(database, "b", unreadable("a"))
    found = batch_progress.status(database, "b")
    assert (found.state, found.errors) == ("completed", {"encrypted": 1})
    assert batch_control.without_text(database, "b") == 1
    assert batch_papers.known_custom_ids(database, batch) == {}

    batch = submit(database, "b", paper("a"))

    assert states(database, "b") == {"a": "queued"}
    assert batch_papers.known_custom_ids(database, batch) == {"a": "a.pdf"}
    assert review_all(database) == 1


def test_a_known_paper_that_cannot_be_read_any_more_stays(database: Database) -> None:
    submit(database, "b", paper("a"))
    submit(database, "b", unreadable("a"))
    assert states(database, "b") == {"a": "queued"}


def test_samples_are_jobs_of_their_own(database: Database) -> None:
    submit(database, "b", paper("a"), paper("twin", "a"), unreadable("u"), samples=3)
    assert review_all(database) == 3
    assert batch_progress.status(database, "b").counts["succeeded"] == 6
    assert states(database, "b")["u#2"] == "failed"


def test_names_and_texts_that_postgresql_cannot_store_are_cleaned(database: Database) -> None:
    name = "caf\udce9\x00"
    batch = submit(database, "b", paper(name, "nul \x00 in text"))
    again = batch_papers.add_papers(database, batch, [paper(name, "nul \x00 in text")])
    assert again.known == 1
    assert claim_one(database).text == "nul \ufffd in text"


def test_a_resumed_batch_keeps_its_reviewer_version(database: Database) -> None:
    first = a_reviewer(database)
    submit(database, "b", paper("a"))
    newer = reviewers.register(
        database, name=first.name, sha256="newer", kind="local", queue="reviews.tiny", config={}
    )
    assert newer.version == 2
    assert submit(database, "b", paper("b"), reviewer=newer).reviewer == first


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"priority": 0}, "priority 1, not 0"),
        ({"samples": 2}, "samples 1, not 2"),
        ({"deadline_seconds": 60.0}, "deadline_seconds None, not 60.0"),
        ({"allow_external": True}, "allow_external False, not True"),
    ],
)
def test_a_batch_name_used_with_other_options_is_refused(
    database: Database, options: dict[str, Any], named: str
) -> None:
    submit(database, "b", paper("a"))
    with pytest.raises(UserError, match=named):
        submit(database, "b", paper("a"), **options)


def test_a_batch_name_used_with_another_reviewer_is_refused(database: Database) -> None:
    submit(database, "b", paper("a"))
    with pytest.raises(UserError, match="reviewer tiny-7, not tiny-4"):
        submit(database, "b", reviewer=a_reviewer(database, "tiny-4"))


def test_a_cancelled_batch_takes_no_papers(database: Database) -> None:
    batch = batch_records.open_batch(database, "b", a_reviewer(database), BatchOptions())
    batch_control.cancel(database, "b")
    with pytest.raises(UserError, match="takes no more papers"):
        batch_papers.add_papers(database, batch, [paper("a")])
    with pytest.raises(UserError, match="was cancelled"):
        submit(database, "b", paper("a"))


def test_a_chunk_has_at_most_200_papers(database: Database) -> None:
    batch = batch_records.open_batch(database, "b", a_reviewer(database), BatchOptions())
    many = [NewPaper(str(n), "s", None) for n in range(201)]
    with pytest.raises(ValueError, match="at most 200"):
        batch_papers.add_papers(database, batch, many)
    assert claim(database) is None


def test_two_batches_share_a_papers_text(database: Database) -> None:
    submit(database, "one", paper("a", "same"))
    submit(database, "two", paper("b", "same"))
    first, second = claim_one(database), claim_one(database)
    assert first.paper_id == second.paper_id
    assert review_all(database) == 0


def _open(database: Database, name: str = "b") -> batch_records.Batch:
    return batch_records.open_batch(database, name, a_reviewer(database), BatchOptions())


def _state(database: Database, name: str = "b") -> str:
    return batch_progress.status(database, name).state


def test_a_submit_does_not_end_the_batch_under_another(database: Database) -> None:
    # Given a long submit under way, whose first papers are done
    long = _open(database)
    batch_papers.add_papers(database, long, [paper("a")])
    review_all(database)
    # When a short one starts and ends
    short = _open(database)
    batch_papers.add_papers(database, short, [paper("b")])
    batch_records.finish_submit(database, short)
    review_all(database)
    reconcile.reconcile(database, max_attempts=3)
    # Then the batch waits for the long one, which stores the rest
    assert _state(database) == "validating"
    assert batch_papers.add_papers(database, long, [paper("c")]).new == 1
    batch_records.finish_submit(database, long)
    assert _state(database) == "in_progress"
    review_all(database)
    assert _state(database) == "completed"


def test_of_many_submits_at_once_the_last_ends_the_batch(database: Database) -> None:
    reviewer = a_reviewer(database)

    def one(number: int) -> str:
        batch = batch_records.open_batch(database, "b", reviewer, BatchOptions())
        added = batch_papers.add_papers(database, batch, [paper(f"{number}"), unreadable("x")])
        assert added.new == 1
        batch_records.finish_submit(database, batch)
        return batch.name

    with ThreadPoolExecutor(4) as pool:
        submits = [pool.submit(one, number) for number in range(20)]
        while not all(submit.done() for submit in submits):
            review_all(database)
        assert [submit.result() for submit in submits] == ["b"] * 20
    review_all(database)
    assert _state(database) == "completed"
    assert batch_progress.status(database, "b").counts["succeeded"] == 20


def test_a_batch_whose_only_submit_was_killed_stays_open(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_submits, "LEASE_SECONDS", -1.0)
    killed = _open(database)
    batch_papers.add_papers(database, killed, [paper("a")])
    review_all(database)
    reconcile.reconcile(database, max_attempts=3)
    assert _state(database) == "validating"
    # A rerun ends it at once.
    batch_records.finish_submit(database, _open(database))
    assert _state(database) == "completed"


@pytest.mark.parametrize("by", ["reconcile", "status"])
def test_a_submit_killed_beside_another_is_waited_for_as_long_as_its_lease(
    database: Database, by: str
) -> None:
    # Given two submits, one of which was killed a moment ago
    killed, other = _open(database), _open(database)
    batch_papers.add_papers(database, other, [paper("a")])
    batch_records.finish_submit(database, other)
    review_all(database)
    assert _state(database) == "validating"
    # When its lease is over
    with database.write() as on:
        on.execute(text("UPDATE open_submit SET lease_until = 0"))
    if by == "reconcile":
        reconcile.reconcile(database, max_attempts=3)
    else:
        reconcile.expire_deadlines(database)
    # Then the batch ends
    assert _state(database) == "completed"
    # And a submit that was frozen and not killed goes on all the same
    assert batch_papers.add_papers(database, killed, [paper("b")]).new == 1
    assert _state(database) == "validating"
    batch_records.finish_submit(database, killed)
    review_all(database)
    assert _state(database) == "completed"


def test_a_submit_that_fails_leaves_and_a_cancelled_batch_takes_no_more(database: Database) -> None:
    first, second = _open(database), _open(database)
    open_submits.leave(database, first.submit_id)
    open_submits.leave(database, first.submit_id)
    batch_control.cancel(database, "b")
    with pytest.raises(UserError, match="takes no more papers"):
        batch_papers.add_papers(database, second, [paper("a")])
    batch_records.finish_submit(database, second)
    assert _state(database) == "cancelled"


def test_a_submit_without_papers_to_add_ends_too(database: Database) -> None:
    batch_records.finish_submit(database, _open(database))
    assert _state(database) == "completed"
    again = batch_records.reopen_batch(database, "b")
    assert _state(database) == "validating"
    batch_records.finish_submit(database, again)
    assert _state(database) == "completed"
