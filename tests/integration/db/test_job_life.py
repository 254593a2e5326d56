"""The invariants of a job hold for any order of actions of several workers and an operator."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from db import batch_control, batch_progress, claims, completion, reconcile
from db.claims import Claim
from db.duplicates import LIVE
from db.session import Database, open_database
from tests.integration.db.content import a_review, claim, paper, submit

WORKERS = st.sampled_from(["w1", "w2", "w3"])
IDS = st.sampled_from(["a", "b", "b2", "b3", "c"])
PAPERS = [paper("a"), paper("b"), paper("b2", "b"), paper("b3", "b"), paper("c")]


class JobLife(RuleBasedStateMachine):
    """Workers keep all claims they ever got: acting on an old claim must change nothing."""

    #: The same one each time, on other data: an engine keeps what it compiled, and closed it only
    #: loses its connections.
    open_fresh: Callable[[], Database]

    def __init__(self) -> None:
        super().__init__()
        self.database = type(self).open_fresh()
        submit(self.database, "batch", *PAPERS)
        self.claims: list[Claim] = []
        self.seen: dict[str, tuple[str, int]] = {}
        self.reopened: set[str] = set()

    def teardown(self) -> None:
        self.database.close()

    def rows(self) -> list[Any]:
        query = text(
            "SELECT job.id, custom_id, state, attempt, given_back, worker, duplicate_of, held, "
            "(SELECT count(*) FROM review WHERE review.job_id = job.id) AS reviews FROM job"
        )
        with self.database.read() as on:
            return list(on.execute(query).mappings())

    def holds(self, held: Claim) -> bool:
        (row,) = [row for row in self.rows() if row["id"] == held.job_id]
        fence = (row["state"], row["attempt"], row["worker"])
        return fence == ("running", held.attempt, held.worker)

    def pick(self, data: st.DataObject) -> Claim:
        return data.draw(st.sampled_from(self.claims))

    @rule(worker=WORKERS, dead=st.booleans())
    def claim(self, worker: str, dead: bool) -> None:
        taken = claim(self.database, worker, lease_seconds=-1.0 if dead else 60.0)
        if taken is not None:
            assert self.holds(taken)
            self.claims.append(taken)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        held = self.pick(data)
        expected = self.holds(held)
        assert completion.commit_review(self.database, held, a_review()) == expected

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), drain=st.booleans())
    def release(self, data: st.DataObject, drain: bool) -> None:
        held = self.pick(data)
        expected = self.holds(held)
        assert completion.release(self.database, held, reason="x", keep_attempt=drain) == expected

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        held = self.pick(data)
        expected = self.holds(held)
        assert completion.fail(self.database, held, kind="k", sentence="s") == expected

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        held = self.pick(data)
        expected = self.holds(held)
        renewal = claims.renew(self.database, worker=held.worker, held={held.key}, lease_seconds=60)
        assert (held.key not in renewal.lost) == expected
        for key in renewal.cancelled:
            assert completion.cancelled(self.database, held) == (key == held.key)

    @rule(custom_id=IDS)
    def cancel(self, custom_id: str) -> None:
        batch_control.cancel(self.database, "batch", [custom_id])

    @rule(custom_id=IDS)
    def retry(self, custom_id: str) -> None:
        batch_control.retry(self.database, "batch", [custom_id])
        self.reopened.add(custom_id)

    @rule(custom_id=IDS, body=st.sampled_from(["b", "new"]))
    def replace(self, custom_id: str, body: str) -> None:
        with self.database.write() as on:
            on.execute(text("UPDATE batch SET deadline_at = NULL WHERE deadline_at = 1"))
        submit(self.database, "batch", paper(custom_id, body), replace=True)
        self.reopened.add(custom_id)

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        (batch_control.pause if paused else batch_control.resume)(self.database, "batch")

    @rule()
    def reconcile(self) -> None:
        reconcile.reconcile(self.database, max_attempts=3)

    @rule()
    def deadline_passes(self) -> None:
        """Jobs that have not ended expire, running or not; a retry removes the deadline."""
        with self.database.write() as on:
            on.execute(text("UPDATE batch SET deadline_at = 1"))
        reconcile.expire_deadlines(self.database)
        assert not any(row["state"] in LIVE for row in self.rows())

    @invariant()
    def every_rule_holds(self) -> None:
        rows = self.rows()
        by_id = {row["id"]: row for row in rows}
        assert len(rows) == len(PAPERS)
        for row in rows:
            self.check_alone(row)
            if row["duplicate_of"] is not None:
                self.check_duplicate(row, by_id[row["duplicate_of"]])
        self.check_progress(rows)
        self.seen = {row["custom_id"]: (row["state"], row["attempt"]) for row in rows}
        self.reopened.clear()

    def check_alone(self, row: Any) -> None:
        original = row["duplicate_of"] is None
        succeeded = row["state"] == "succeeded"
        assert row["reviews"] == int(original and succeeded)
        assert row["attempt"] - row["given_back"] <= 3
        state, attempt = self.seen.get(row["custom_id"], ("queued", 0))
        assert row["attempt"] >= attempt, "a fence only grows"
        if state not in LIVE and row["custom_id"] not in self.reopened:
            assert row["state"] == state, "an end is an end"

    def check_duplicate(self, row: Any, original: Any) -> None:
        assert original["duplicate_of"] is None, "a duplicate of a duplicate"
        assert row["state"] != "queued" or original["state"] in LIVE, "waits for nobody"
        assert row["state"] != "succeeded" or original["state"] == "succeeded"

    def check_progress(self, rows: list[Any]) -> None:
        found = batch_progress.status(self.database, "batch")
        assert found.counts["total"] == len(rows)
        for state in ("queued", "running", "succeeded", "failed", "cancelled", "expired"):
            assert found.counts[state] == sum(row["state"] == state for row in rows)
        live = any(row["state"] in LIVE for row in rows)
        assert (found.state in ("completed", "expired")) == (not live)


def test_the_life_of_jobs_on_sqlite(migrated_sqlite: Path, tmp_path: Path) -> None:
    path = tmp_path / "life.db"
    database = open_database(f"sqlite:///{path}")

    def open_fresh() -> Database:
        database.close()
        for old in tmp_path.glob("life.db*"):
            old.unlink()
        shutil.copy(migrated_sqlite, path)
        return database

    run(open_fresh, examples=15)


def test_the_life_of_jobs_on_postgresql(postgres_server: Any, migrated_postgres: str) -> None:
    database = open_database(postgres_server.url(migrated_postgres))

    def open_fresh() -> Database:
        database.close()
        postgres_server.wipe(migrated_postgres)
        return database

    run(open_fresh, examples=8)


def run(open_fresh: Callable[[], Database], examples: int) -> None:
    machine = type("Life", (JobLife,), {"open_fresh": staticmethod(open_fresh)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # Shrinking takes minutes here, and the unshrunk steps are readable.
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
        ),
    )
