"""The thread that keeps a worker's leases goes on, whatever a beat runs into."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from db import nodes
from db.session import Database
from settings import Settings
from tests.integration.db.content import QUEUE
from tests.scripted_engine import ScriptedEngine
from tests.site import wait_until
from worker.app import make_app
from worker.contact import Contact
from worker.engines import LocalEngines
from worker.in_flight import InFlight
from worker.keeper import Identity, Keeper
from worker.metrics import Metrics
from worker.paper_record import PaperRecord
from worker.subscription import Subscription


def test_a_beat_that_fails_is_followed_by_the_next(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(home=tmp_path, lease_seconds=1.0, reconcile_seconds=0.2)
    identity = Identity("w1", "h", 1, "", QUEUE, "", 2, "", "v")
    keeper = Keeper(
        identity=identity,
        database=database,
        app=make_app("redis://127.0.0.1:1/0", settings),
        subscription=Subscription(QUEUE),
        in_flight=InFlight(),
        engines=LocalEngines("x", ScriptedEngine(2), lambda _: tmp_path),
        contact=Contact(60),
        settings=settings,
        metrics=Metrics(settings, "cpu"),
        paper_record=PaperRecord(),
    )
    beats = []

    def sign(*_: object, **__: object) -> nodes.Standing:
        beats.append(1)
        if len(beats) == 1:
            raise psycopg.errors.NotSupportedError("cached plan must not change result type")
        return nodes.Standing("active", None)

    monkeypatch.setattr(nodes, "sign_of_life", sign)
    keeper.start()
    try:
        wait_until(lambda: len(beats) >= 3, 30)
    finally:
        keeper.stop()
    assert "a beat failed" in caplog.text
