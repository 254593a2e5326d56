"""The keeper thread renews leases after any error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import select

from db import worker_nodes
from db.schema import Job
from db.session import Database
from dispatch.app import make_app
from dispatch.doorbell import Announcer
from settings import Settings
from testing.scripted_engine import ScriptedEngine
from testing.servers import Valkey, frozen
from tests.integration.db.content import QUEUE, claim_one, paper, submit
from tests.site import wait_until
from worker.database_liveness import DatabaseLiveness
from worker.engines import LocalEngines
from worker.identity import Identity
from worker.idle import IdleWatch
from worker.in_flight import InFlight
from worker.keeper import Keeper
from worker.metrics import Metrics
from worker.self_check import SelfCheck
from worker.subscription import Subscription


def keeper_of(
    database: Database,
    folder: Path,
    *,
    in_flight: InFlight,
    announce: Callable[..., object] = lambda _: None,
    idle_watch: IdleWatch | None = None,
) -> Keeper:
    """The keeper of a worker w1 with a lease of a second."""
    settings = Settings(home=folder, lease_seconds=1.0, reconcile_seconds=0.2)
    return Keeper(
        identity=Identity("w1", "h", 1, "", (QUEUE,), "", 2, "", "v"),
        database=database,
        announce=announce,
        subscription=Subscription([QUEUE]),
        in_flight=in_flight,
        engines=LocalEngines("x", ScriptedEngine(2), lambda _: folder),
        liveness=DatabaseLiveness(60),
        settings=settings,
        metrics=Metrics(settings, "cpu"),
        self_check=SelfCheck(),
        idle_watch=idle_watch,
    )


def test_heartbeats_continue_after_a_failed_one(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper = keeper_of(database, tmp_path, in_flight=InFlight())
    beats = []

    def sign(*_: object, **__: object) -> worker_nodes.DesiredState:
        beats.append(1)
        if len(beats) == 1:
            raise psycopg.errors.NotSupportedError("cached plan must not change result type")
        return worker_nodes.DesiredState("active", None)

    monkeypatch.setattr(worker_nodes, "heartbeat", sign)
    keeper.start()
    try:
        wait_until(lambda: len(beats) >= 3, 30)
    finally:
        keeper.stop()
    assert "a beat failed" in caplog.text


def test_leases_are_renewed_while_the_broker_is_frozen(database: Database, tmp_path: Path) -> None:
    # Given a paper in flight, and another that waits for a doorbell of a broker that froze
    submit(database, "b", paper("a"), paper("b"))
    in_flight = InFlight()
    in_flight.hold([claim_one(database, "w1")])
    valkey = Valkey(tmp_path)
    app = make_app(valkey.url, Settings(home=tmp_path))
    announce = Announcer(app).announce
    keeper = keeper_of(database, tmp_path, in_flight=in_flight, announce=announce)
    try:
        with frozen(valkey.url):
            keeper.start()
            # Then the lease is renewed again and again
            seen: set[float] = set()
            wait_until(lambda: seen.add(lease_until(database)) or len(seen) > 10, 20)
        # And the message is sent once the broker answers again
        with redis.Redis.from_url(valkey.url) as client:
            wait_until(lambda: client.llen(QUEUE), 30)
    finally:
        keeper.stop()
        valkey.stop()
        app.close()


class LateSubmit(IdleWatch):
    """Reports an idle queue at the first check, after which a paper is submitted."""

    def over(self) -> bool:
        over = super().over()
        submit(self._database, "late", paper("a"))
        return over


def test_paper_submitted_between_check_and_stop_prevents_idle_exit(
    database: Database, tmp_path: Path
) -> None:
    in_flight = InFlight()
    watch = LateSubmit(database, [QUEUE], in_flight, limit_seconds=0.0)
    keeper = keeper_of(database, tmp_path, in_flight=in_flight, idle_watch=watch)
    watch._since = 0.0  # so that the first check is the last
    keeper.beat()
    assert not keeper.idle.is_set()
    assert not in_flight.paused


def test_idle_worker_claims_no_more_jobs(database: Database, tmp_path: Path) -> None:
    in_flight = InFlight()
    watch = IdleWatch(database, [QUEUE], in_flight, limit_seconds=0.0)
    keeper = keeper_of(database, tmp_path, in_flight=in_flight, idle_watch=watch)
    keeper.beat()
    assert not keeper.idle.is_set()
    keeper.beat()
    assert keeper.idle.is_set()
    # And a heartbeat before the end of the process changes nothing
    keeper.beat()
    assert in_flight.paused


def lease_until(database: Database) -> float:
    """When the lease of the one running job ends."""
    with database.read() as on:
        return on.scalars(select(Job.lease_until).where(Job.state == "running")).one() or 0.0
