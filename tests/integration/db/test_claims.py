"""Claims and leases: order, takeover, fencing."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, text

from db import batch_control, batch_progress, claims, completion, enqueue
from db.claims import CrashFilter
from db.schema import Job
from db.session import Database
from dispatch.kinds import KINDS
from tests.integration.db.content import (
    QUEUE,
    a_review,
    a_reviewer,
    claim,
    claim_one,
    claim_several,
    paper,
    submit,
)


def test_priority_then_deadline_then_age_decides(database: Database) -> None:
    submit(database, "low", paper("l"), priority=2)
    submit(database, "normal", paper("n"))
    submit(database, "late", paper("d2"), deadline_seconds=7200.0)
    submit(database, "soon", paper("d1"), deadline_seconds=3600.0)
    submit(database, "older", paper("n2"))
    submit(database, "high", paper("h"), priority=0)

    order = [claim_one(database).custom_id for _ in range(6)]

    assert order == ["h", "d1", "d2", "n", "n2", "l"]
    assert claim(database) is None


def test_reviewers_of_one_base_share_its_queue_by_age(database: Database) -> None:
    submit(database, "first", paper("1"), reviewer=a_reviewer(database, "one"))
    submit(database, "second", paper("2"), reviewer=a_reviewer(database, "two"))
    submit(database, "third", paper("3"), reviewer=a_reviewer(database, "one"))
    assert [claim_one(database).custom_id for _ in range(3)] == ["1", "2", "3"]


def test_worker_claims_only_from_its_queue(database: Database) -> None:
    submit(database, "gpu", paper("g"))
    submit(database, "cpu", paper("c"), reviewer=a_reviewer(database, "api", queue="cpu"))
    assert claim_one(database, queues=["cpu"]).custom_id == "c"
    assert claim(database, queues=["cpu"]) is None
    assert claim_one(database).custom_id == "g"


def test_paused_batch_is_not_claimed_and_does_not_block_others(database: Database) -> None:
    submit(database, "b", paper("a"), priority=0)
    submit(database, "other", paper("o"))
    batch_control.pause(database, "b")
    assert batch_progress.status(database, "b").state == "paused"
    # Papers that are submitted while it is paused wait as well.
    submit(database, "b", paper("a2"), priority=0)
    assert claim_one(database).custom_id == "o"
    assert claim(database) is None
    batch_control.resume(database, "b")
    assert [claim_one(database).custom_id, claim_one(database).custom_id] == ["a", "a2"]


def test_a_job_past_its_deadline_is_not_claimed(database: Database) -> None:
    submit(database, "b", paper("a"), deadline_seconds=-1.0)
    assert claim(database) is None


def test_an_ended_lease_lets_another_worker_take_over(database: Database) -> None:
    submit(database, "b", paper("a"))
    zombie = claim_one(database, "w1", lease_seconds=-1.0)
    duplicate = claim_one(database, "w2")
    assert (duplicate.job_id, duplicate.attempt) == (zombie.job_id, 2)

    # Nothing that the first worker does now has an effect.
    assert not completion.commit_review(database, zombie, a_review("zombie"))
    assert not completion.fail(database, zombie, kind="x", sentence="x")
    assert not completion.release(database, zombie, reason="x")
    assert not completion.cancelled(database, zombie)
    lost = claims.renew(database, worker="w1", held={(zombie.job_id, 1)}, lease_seconds=60)
    assert lost.lost == {(zombie.job_id, 1)}

    assert completion.commit_review(database, duplicate, a_review("promoted"))
    assert not completion.commit_review(database, duplicate, a_review("again"))
    with database.read() as on:
        assert on.scalars(text("SELECT raw FROM review")).all() == ["promoted"]


def test_valid_lease_prevents_takeover(database: Database) -> None:
    submit(database, "b", paper("a"))
    claim_one(database, "w1")
    assert claim(database, "w2") is None


def test_expired_lease_can_be_renewed_before_a_takeover(database: Database) -> None:
    submit(database, "b", paper("a"))
    taken = claim_one(database, lease_seconds=-1.0)
    renewal = claims.renew(database, worker="w1", held={(taken.job_id, 1)}, lease_seconds=60)
    assert renewal == claims.Renewal(frozenset(), frozenset())
    assert claim(database, "w2") is None
    assert claims.renew(database, worker="w1", held=set(), lease_seconds=60).lost == frozenset()


def test_a_dead_workers_job_that_was_cancelled_is_not_taken_over(database: Database) -> None:
    submit(database, "b", paper("a"))
    claim_one(database, lease_seconds=-1.0)
    batch_control.cancel(database, "b", ["a"])
    assert claim(database, "w2") is None


def test_takeover_ends_with_the_second_crash(database: Database) -> None:
    submit(database, "b", paper("a"))
    for _ in range(2):
        claim_one(database, lease_seconds=-1.0)
    assert claim(database) is None


def test_claims_under_one_worker_name_differ_by_attempt(database: Database) -> None:
    submit(database, "b", paper("a"))
    old = claim_one(database, "w1", lease_seconds=-1.0)
    new = claim_one(database, "w1")
    assert not completion.commit_review(database, old, a_review())
    renewal = claims.renew(database, worker="w1", held={old.key}, lease_seconds=60)
    assert renewal.lost == {old.key}
    assert completion.commit_review(database, new, a_review())


def test_two_queues_are_served_in_one_order(database: Database) -> None:
    # Given three jobs of normal priority, an urgent one on the other queue and one due soon
    other = a_reviewer(database, "other-7", "cpu.other")
    submit(database, "b", paper("1"), paper("2"))
    submit(database, "later", paper("3"), reviewer=other)
    submit(database, "due", paper("4"), reviewer=other, deadline_seconds=3600.0)
    submit(database, "urgent", paper("5"), reviewer=other, priority=0)
    both = [QUEUE, "cpu.other"]
    # Then priority, deadline and age decide across both queues, for one job and for several
    taken = [claim_one(database, queues=both).custom_id for _ in range(2)]
    more = [one.custom_id for one in claim_several(database, 3, queues=both)]
    assert (taken, more) == (["5", "4"], ["1", "2", "3"])
    assert claim_several(database, 1, queues=both) == []


def test_jobs_of_an_unknown_kind_stay_in_the_queue(database: Database) -> None:
    submit(database, "b", paper("a"))
    assert claim_several(database, 1, kinds=["judge"]) == []
    assert not claims.has_live_jobs(database, [QUEUE], ["judge"])
    assert claim_one(database).kind == "review"
    assert not claims.has_live_jobs(database, [QUEUE], ["judge"])


@pytest.mark.parametrize("most", [1, 16])
def test_an_index_serves_each_queue_of_a_claim(database: Database, most: int) -> None:
    submit(database, "b", *(paper(str(n)) for n in range(50)))
    parameters: dict[str, Any] = {"queue_0": QUEUE, "queue_1": "cpu.other", "kinds": ["review"]}
    parameters |= {"by_worker": "w", "lease": 1.0, **vars(claims.ONE_AT_A_TIME)}

    plan = _plan(database, claims._take_queued(most, 2), parameters)

    # Then both parts come from the index in the claim's order; only the candidates are sorted
    assert plan.count("ix_job_claim") == 2
    assert "Seq Scan on job" not in plan
    assert "SCAN job" not in plan


@pytest.mark.parametrize("most", [1, 16])
def test_an_index_serves_the_claim(database: Database, most: int) -> None:
    submit(database, "b", *(paper(str(n)) for n in range(50)))
    parameters = {
        "queue_0": QUEUE,
        "kinds": ["review"],
        "by_worker": "w",
        "lease": 1.0,
        **vars(claims.ONE_AT_A_TIME),
    }

    plan = _plan(database, claims._take_queued(most), parameters)

    # Then an index in the claim's order finds the job, and nothing is sorted or read as a whole
    assert "ix_job_claim" in plan
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan
    assert "Seq Scan" not in plan


def test_plans_made_while_the_tables_are_empty_serve_when_they_are_full(
    database: Database,
) -> None:
    # Given a server that has seen the tables empty, as autovacuum has when a batch is submitted
    with database.write() as on:
        on.execute(text("ANALYZE"))

    # When it plans a lookup of a chunk's names, or the check of an event's foreign key
    with database.read() as on:
        named = enqueue.select_named_jobs(on, 1, {"a", "b"})
    look_up = _plan(database, named)
    check = _plan(database, select(Job.id).where(Job.id == 1))

    # Then it uses the indexes that are suitable for large tables too
    if database.dialect == "sqlite":
        assert "(batch_id=? AND custom_id=?)" in look_up
        assert "PRIMARY KEY" in check
    else:
        assert "ix_job_custom_id" in look_up
        assert "pk_job" in check
        assert "Seq Scan" not in look_up + check


def test_several_jobs_are_claimed_in_order(database: Database) -> None:
    submit(database, "b", *(paper(str(n)) for n in range(5)))
    first = claim_several(database, 3)
    assert [taken.custom_id for taken in first] == ["0", "1", "2"]
    assert [taken.attempt for taken in first] == [1, 1, 1]
    rest = claim_several(database, 3)
    assert [taken.custom_id for taken in rest] == ["3", "4"]
    assert claim_several(database, 3) == []
    for taken in (*first, *rest):
        assert completion.commit_review(database, taken, a_review())


def test_crashed_paper_is_claimed_alone_and_in_order(database: Database) -> None:
    # Given four papers, of which the second has crashed an engine
    submit(database, "b", *(paper(str(n)) for n in range(4)))
    first, second = claim_one(database), claim_one(database)
    completion.crashed(database, second, reason="it broke")
    completion.release(database, first, reason="later", keep_attempt=True)
    # Then it is not claimed together with others
    crash_filter = CrashFilter(0, 1 << 30, 2)
    taken = [claim_several(database, 3, crash_filter=crash_filter) for _ in range(3)]
    found = [[one.custom_id for one in some] for some in taken]
    assert found == [["0", "2", "3"], ["1"], []]


def _plan(database: Database, statement: Any, parameters: dict[str, Any] | None = None) -> str:
    compiled = statement.compile(database.engine)
    state = compiled.construct_expanded_state(parameters)
    values: Any = state.positional_parameters if compiled.positional else state.parameters
    with database.write() as on:
        how = "EXPLAIN QUERY PLAN"
        if database.dialect == "postgresql":
            how = "EXPLAIN"
            on.execute(text("SET LOCAL enable_bitmapscan = off"))
        rows = on.exec_driver_sql(f"{how} {state.statement}", values)
        return "\n".join(str(tuple(row)) for row in rows)


def test_paper_in_back_off_prevents_idle_exit(database: Database) -> None:
    submit(database, "b", paper("p1"))
    assert claims.has_live_jobs(database, [QUEUE], KINDS)
    held = claim_one(database)
    assert claims.has_live_jobs(database, [QUEUE], KINDS)
    completion.release(database, held, reason="later", delay_seconds=60.0)
    assert claim(database) is None
    assert claims.has_live_jobs(database, [QUEUE], KINDS)
    batch_control.pause(database, "b")
    assert not claims.has_live_jobs(database, [QUEUE], KINDS)
