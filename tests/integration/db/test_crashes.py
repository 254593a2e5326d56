"""A paper that crashes the engine is identified; papers in flight with it are not failed."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from db import batch_control, claims, completion, reconcile
from db.claims import Claim
from db.reviews import export
from db.session import Database
from tests.integration.db.content import QUEUE, a_review, claim, claim_one, paper, states, submit
from worker.crash_isolation import CrashIsolation


class SimulatedWorker:
    """Fills its slots as far as the rules allow, like a worker's threads."""

    def __init__(self, database: Database, slots: int) -> None:
        self.database, self.isolation = database, CrashIsolation(slots)
        self.held: list[Claim] = []
        self.crashes = 0

    def fill(self) -> None:
        """Claim until all slots are full or the queue is empty."""
        while (
            crash_filter := self.isolation.crash_filter([held.crashes for held in self.held])
        ) is not None:
            taken = claims.claim(
                self.database,
                self.isolation.slots - len(self.held),
                queues=[QUEUE],
                kinds=["review"],
                worker="w",
                lease_seconds=60.0,
                max_attempts=3,
                crash_filter=crash_filter,
            )
            if not taken:
                return
            self.held += taken

    def crash(self, how: Callable[[Database, list[Claim]], None]) -> None:
        """Crash with all jobs that are held."""
        how(self.database, self.held)
        self.held, self.crashes = [], self.crashes + 1


def of_the_engine(database: Database, held: list[Claim]) -> None:
    for each in held:
        assert completion.crashed(database, each, reason="a step failed")


def of_the_process(database: Database, held: list[Claim]) -> None:
    assert reconcile.recover(database, worker="w", max_attempts=3) == len(held)


@pytest.mark.parametrize("crash", [of_the_engine, of_the_process])
def test_papers_that_crash_the_engine_are_found_and_no_others_fail(
    database: Database, crash: Callable[[Database, list[Claim]], None]
) -> None:
    # Given sixty papers, two of which crash the engine
    names = [f"p{number:02}" for number in range(60)]
    submit(database, "b", *(paper(name) for name in names))
    crashing, draw = {"p03", "p31"}, random.Random(4)
    worker = SimulatedWorker(database, slots=16)
    # When a worker with 16 slots processes them
    while worker.fill() or worker.held:
        if crashing & {held.custom_id for held in worker.held}:
            worker.crash(crash)
        else:
            done = worker.held.pop(draw.randrange(len(worker.held)))
            assert completion.commit_review(database, done, a_review())
    # Then these two have failed, and all others were reviewed
    lines = {line.custom_id: line for line in export(database, "b")}
    failed = {name for name, line in lines.items() if line.state == "failed"}
    assert failed == crashing
    assert all(f"{name} was alone in the engine" in str(lines[name].error) for name in crashing)
    assert all(line.state == "succeeded" for name, line in lines.items() if name not in crashing)
    # Each causes one crash among 16, one among 4, and two alone
    assert worker.crashes <= 2 * 4


def test_crash_beside_others_uses_no_attempt_and_one_alone_does(database: Database) -> None:
    submit(database, "b", paper("a"))
    isolation = CrashIsolation(8)
    used = []
    for _ in range(4):
        held = claim_one(database, crash_filter=isolation.crash_filter([]))
        assert completion.crashed(database, held, reason="a step failed")
        with database.read() as on:
            used.append(on.exec_driver_sql("SELECT attempt - given_back FROM job").scalar())
    assert used == [0, 0, 1, 2]  # with up to 7 others, with 1 other, alone, alone
    assert states(database, "b") == {"a": "failed"}


def test_other_failed_attempts_do_not_count_as_crashes(database: Database) -> None:
    # Given a paper that was released twice and whose third and last worker crashes
    submit(database, "b", paper("a"))
    for _ in range(2):
        completion.release(database, claim_one(database), reason="the endpoint timed out")
    held = claim_one(database)
    assert completion.crashed(database, held, reason="the worker died")
    # Then it fails because its attempts are used up
    (line,) = export(database, "b")
    assert (line.state, line.error_kind) == ("failed", "attempts")
    # And when it is queued again, a first crash does not end it
    batch_control.retry(database, "b")
    claim_one(database, lease_seconds=-1.0)
    reconcile.reconcile(database, max_attempts=3)
    assert states(database, "b") == {"a": "queued"}


def test_crash_of_a_job_being_cancelled_cancels_it(database: Database) -> None:
    submit(database, "b", paper("a"))
    held = claim_one(database)
    batch_control.cancel(database, "b", ["a"])
    assert completion.crashed(database, held, reason="a step failed")
    assert states(database, "b") == {"a": "cancelled"}
    assert not completion.crashed(database, held, reason="again")


def test_job_without_a_crash_does_not_run_beside_crashed_ones(database: Database) -> None:
    submit(database, "b", *(paper(name) for name in "abcdefgh"))
    isolation = CrashIsolation(8)
    first = claim_one(database, crash_filter=isolation.crash_filter([]))
    assert completion.crashed(database, first, reason="x")
    crashed_paper = claim_one(database, crash_filter=isolation.crash_filter([]))
    assert (crashed_paper.custom_id, crashed_paper.crashes) == ("a", 1)
    assert claim(database, crash_filter=isolation.crash_filter([crashed_paper.crashes])) is None
    # After one crash the limit is two jobs, so no more are claimed.
    assert isolation.crash_filter([1, 1]) is None
    # A full worker leaves crashed papers to workers with fewer jobs, and claims others.
    completion.release(database, crashed_paper, reason="x", keep_attempt=True)
    assert claim_one(database, crash_filter=isolation.crash_filter([0, 0])).custom_id == "b"
    assert claim_one(database, crash_filter=isolation.crash_filter([0])).custom_id == "a"
