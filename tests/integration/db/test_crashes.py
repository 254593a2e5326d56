"""A paper that breaks the engine is found; those that were in it with the paper are not blamed."""

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
    """Keeps its slots as full as the rules allow, as a worker's threads do."""

    def __init__(self, database: Database, slots: int) -> None:
        self.database, self.isolation = database, CrashIsolation(slots)
        self.held: list[Claim] = []
        self.crashes = 0

    def fill(self) -> None:
        """Claim until there is no room or no work."""
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
        """Break down with all that is held."""
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
    # Given sixty papers of which two break whatever they are in
    names = [f"p{number:02}" for number in range(60)]
    submit(database, "b", *(paper(name) for name in names))
    killers, draw = {"p03", "p31"}, random.Random(4)
    worker = SimulatedWorker(database, slots=16)
    # When a worker with 16 slots goes through them
    while worker.fill() or worker.held:
        if killers & {held.custom_id for held in worker.held}:
            worker.crash(crash)
        else:
            done = worker.held.pop(draw.randrange(len(worker.held)))
            assert completion.commit_review(database, done, a_review())
    # Then the two have failed, each by its name, and all others were reviewed
    lines = {line.custom_id: line for line in export(database, "b")}
    failed = {name for name, line in lines.items() if line.state == "failed"}
    assert failed == killers
    assert all(f"{name} was alone in the engine" in str(lines[name].error) for name in killers)
    assert all(line.state == "succeeded" for name, line in lines.items() if name not in killers)
    # Each costs a crash in company of 16 and of 4, and two alone
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
    # Given a paper that was given back twice, and whose third and last worker dies
    submit(database, "b", paper("a"))
    for _ in range(2):
        completion.release(database, claim_one(database), reason="the endpoint timed out")
    held = claim_one(database)
    assert completion.crashed(database, held, reason="the worker died")
    # Then it has used its attempts up, which is what it says
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
    # Two are the limit after one crash, and then none may come.
    assert isolation.crash_filter([1, 1]) is None
    # A full worker leaves papers that were in a crash to emptier ones, and takes others.
    completion.release(database, crashed_paper, reason="x", keep_attempt=True)
    assert claim_one(database, crash_filter=isolation.crash_filter([0, 0])).custom_id == "b"
    assert claim_one(database, crash_filter=isolation.crash_filter([0])).custom_id == "a"
