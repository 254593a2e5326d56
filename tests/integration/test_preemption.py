"""A full worker's slots and an urgent job, with real databases and a scripted engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from db import batch_papers, batch_records, claims, completion, reconcile
from db.batch_records import BatchOptions
from db.claims import MAX_PREEMPTIONS, Claim
from db.schema import Job, JobEvent
from db.session import Database
from dispatch import roster
from settings import Settings
from tests.integration.db.content import claim_several, paper
from tests.integration.test_job_runner import reviewing
from tests.site import wait_until
from worker.crash_isolation import CrashIsolation
from worker.identity import Identity
from worker.in_flight import InFlight
from worker.job_runner import JOBS_A_DOORBELL
from worker.preemption import Preemption

HIGH, NORMAL, LOW = 0, 1, 2
HANG = "SCRIPT: hang"


@dataclass(frozen=True)
class Full:
    """A worker whose slots are all busy, on its database."""

    database: Database
    in_flight: InFlight
    preemption: Preemption

    def submit(
        self, name: str, texts: Sequence[str], priority: int, deadline_seconds: float | None = None
    ) -> None:
        submit(self.database, name, texts, priority, deadline_seconds)

    def states(self) -> dict[str, str]:
        """State of each job by custom_id, with "+" for each attempt that it used."""
        columns = select(Job.custom_id, Job.state, Job.attempt - Job.given_back)
        with self.database.read() as on:
            return {row[0]: row[1] + "+" * row[2] for row in on.execute(columns)}

    def wait_for(self, **wanted: str) -> None:
        """Wait for states of jobs, by custom_id with an underscore for the hyphen."""
        by_id = {name.replace("_", "-"): state for name, state in wanted.items()}
        wait_until(lambda: by_id.items() <= self.states().items(), 30)

    def preempted(self) -> list[str]:
        """The custom_id of each preempted job, in order."""
        query = select(Job.custom_id).join(JobEvent, JobEvent.job_id == Job.id)
        with self.database.read() as on:
            return list(on.scalars(query.where(JobEvent.kind == "preempted").order_by(JobEvent.id)))


def submit(
    database: Database,
    name: str,
    texts: Sequence[str],
    priority: int,
    deadline_seconds: float | None = None,
) -> None:
    """Submit papers NAME-0, NAME-1 ... with these texts to the reviewer of `reviewing`."""
    version, _ = roster.resolve(database, "demo-7")
    options = BatchOptions(priority=priority, deadline_seconds=deadline_seconds)
    batch = batch_records.open_batch(database, name, version, options)
    papers = [paper(f"{name}-{n}", f"{text} {name} {n}") for n, text in enumerate(texts)]
    batch_papers.add_papers(database, batch, papers)
    batch_records.finish_submit(database, batch)


@contextmanager
def full_worker(
    database: Database, home: Path, *jobs: tuple[str, Sequence[str], int], slots: int
) -> Iterator[Full]:
    """A worker of `slots` threads with these batches; ready when it holds a job in each."""
    in_flight = InFlight()
    for name, texts, priority in jobs:
        submit(database, name, texts, priority)
    with reviewing(database, home, [], in_flight=in_flight, slots=slots) as runner:
        version, _ = roster.resolve(database, "demo-7")
        identity = Identity("w1", "h", 1, "", (version.queue,), "", slots, "", "v")
        preemption = Preemption(identity, database, in_flight, Settings(home=home))
        threads = [threading.Thread(target=runner.run_waiting_jobs) for _ in range(slots)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(in_flight.attempts()) == slots, 30)
            yield Full(database, in_flight, preemption)
        finally:
            in_flight.drain(0.0)
            for thread in threads:
                thread.join(30)


def test_an_urgent_job_takes_the_slot_of_the_youngest_of_the_lowest_priority(
    database: Database, tmp_path: Path
) -> None:
    # Given a full worker
    jobs = (("normal", [HANG], NORMAL), ("low", [HANG, HANG], LOW))
    with full_worker(database, tmp_path, *jobs, slots=3) as full:
        assert not full.preemption.check()
        # When an urgent paper comes
        full.submit("high", ["text"], HIGH)
        assert full.preemption.check()
        # Then it is reviewed, and the youngest of the lowest priority runs again afterwards
        full.wait_for(high_0="succeeded+", low_0="running+", low_1="running+", normal_0="running+")
        assert full.preempted() == ["low-1"]
        assert not full.preemption.check()


def test_equal_priorities_never_preempt_one_another(database: Database, tmp_path: Path) -> None:
    with full_worker(database, tmp_path, ("low", [HANG, HANG], LOW), slots=2) as full:
        # When more urgent papers come than there are slots
        full.submit("high", [HANG, HANG, HANG], HIGH)
        wait_until(full.preemption.check, 30)
        wait_until(full.preemption.check, 30)
        # Then each takes a slot, and the one that is left waits for another to end
        full.wait_for(high_0="running+", high_1="running+", low_0="queued", low_1="queued")
        assert not full.preemption.check()
        assert full.preempted() == ["low-1", "low-0"]


def test_a_job_is_preempted_at_most_twice(database: Database, tmp_path: Path) -> None:
    with full_worker(database, tmp_path, ("low", [HANG], LOW), slots=1) as full:
        for number in range(MAX_PREEMPTIONS):
            full.submit(f"high{number}", ["text"], HIGH)
            wait_until(full.preemption.check, 30)
            full.wait_for(**{f"high{number}_0": "succeeded+", "low_0": "running+"})
        full.submit("late", ["text"], HIGH)
        wait_until(lambda: len(full.in_flight.attempts()) == 1, 30)
        assert not full.preemption.check()
        assert full.states() | {"late-0": "queued", "low-0": "running+"} == full.states()


def test_a_job_whose_deadline_would_pass_preempts_one_of_lower_priority(
    database: Database, tmp_path: Path
) -> None:
    with full_worker(database, tmp_path, ("low", [HANG], LOW), slots=1) as full:
        full.submit("due", ["text"], NORMAL, deadline_seconds=60.0)
        # Papers that take 10 s leave it time to wait for a slot, those that take 40 s do not
        full.in_flight.typical_seconds = 10.0
        assert not full.preemption.check()
        full.in_flight.typical_seconds = 40.0
        assert full.preemption.check()
        full.wait_for(due_0="succeeded+", low_0="running+")


def test_an_urgent_job_does_not_wait_for_a_doorbell(database: Database, tmp_path: Path) -> None:
    """A slot returns to Celery after some jobs: not while it is to take over an urgent one."""
    texts = ["text"] * (JOBS_A_DOORBELL - 1) + [HANG]
    with full_worker(database, tmp_path, ("low", texts, LOW), slots=1) as full:
        full.wait_for(**{f"low_{JOBS_A_DOORBELL - 1}": "running+"})
        full.submit("high", ["text"], HIGH)
        assert full.preemption.check()
        full.wait_for(high_0="succeeded+")


def test_a_worker_that_dies_between_claim_and_preemption_loses_nothing(
    database: Database, tmp_path: Path
) -> None:
    # Given a worker that has claimed an urgent job and dies before the other is given back
    in_flight, held, queue = hold_low_with_high_waiting(database)
    identity = Identity("w1", "h", 1, "", (queue,), "", 1, "", "v")
    assert Preemption(identity, database, in_flight, Settings(home=tmp_path)).check()
    full = Full(database, in_flight, Preemption(identity, database, in_flight, Settings()))
    assert full.states() == {"low-0": "running+", "high-0": "running+"}
    # When another takes its place
    assert reconcile.recover(database, worker="w1", max_attempts=3) == 2
    # Then both wait again, with all their attempts, and the old one's writes count no more
    assert full.states() == {"low-0": "queued", "high-0": "queued"}
    assert not completion.preempted(database, held, by=held)
    assert claim_on(database, queue).custom_id == "high-0"


def test_an_urgent_job_is_returned_if_a_slot_became_free_meanwhile(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a full worker whose one job ends while the urgent one is claimed
    in_flight, held, queue = hold_low_with_high_waiting(database)
    claim_urgent = claims.claim_urgent

    def claim_while_the_other_ends(*arguments: Any, **options: Any) -> Claim | None:
        in_flight.leave(held)
        return claim_urgent(*arguments, **options)

    monkeypatch.setattr(claims, "claim_urgent", claim_while_the_other_ends)
    identity = Identity("w1", "h", 1, "", (queue,), "", 1, "", "v")
    preemption = Preemption(identity, database, in_flight, Settings(home=tmp_path))
    assert not preemption.check()
    # Then the thread that has become free claims it, or another worker does
    full = Full(database, in_flight, preemption)
    assert full.states() == {"low-0": "running+", "high-0": "queued"}
    assert not in_flight.attempts()
    assert not full.preempted()


def hold_low_with_high_waiting(database: Database) -> tuple[InFlight, Claim, str]:
    """A worker's only slot holds a job of low priority, and an urgent one waits.

    Gives what the worker holds, that job and their queue.
    """
    in_flight = InFlight()
    version, _ = roster.resolve(database, "demo-7")
    submit(database, "low", ["text"], LOW)
    held = claim_on(database, version.queue)
    in_flight.hold([held])
    submit(database, "high", ["text"], HIGH)
    return in_flight, held, version.queue


def claim_on(database: Database, queue: str) -> Claim:
    shared = CrashIsolation(slots=2).crash_filter([])
    (claimed,) = claim_several(database, 1, queues=[queue], crash_filter=shared)
    return claimed
