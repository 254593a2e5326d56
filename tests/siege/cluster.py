"""The cluster of a siege: servers, proxies, two hosts of workers, and the faults."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import redis
from sqlalchemy import Select, select

from db.schema import Job, JobEvent, WorkerNodeRow
from db.session import Database, DatabaseUnavailable, open_database
from dispatch import roster
from models.text.reviewer import builtin, load
from testing.servers import Postgres, Valkey, postgres
from tests.siege.books import Attempt
from tests.siege.fleet import WorkerFleet, WorkerProcess, freeze, thaw
from tests.siege.plan import CANCELLED_AT_ONCE
from tests.siege.proxy import Loop, Proxy, Upstream
from tests.site import SCRIPTED, Site

T = TypeVar("T")

HOSTS = ("east", "west")
WORKERS_A_HOST = 2
SLOTS = 4
#: A short lease, so that it often expires; a freeze and a partition last longer.
LEASE_SECONDS = 4.0
OUTLAST_SECONDS = LEASE_SECONDS * 1.75
#: Seconds for which SQLite's lock is held: longer than the lease.
LOCK_SECONDS = 10.0
BROKER_DOWN_SECONDS = 1.5
_TIMES = {
    "REFEREE_LEASE_SECONDS": str(LEASE_SECONDS),
    "REFEREE_RECONCILE_SECONDS": "1",
    "REFEREE_RETRY_SECONDS": "0.5",
    "REFEREE_DRAIN_SECONDS": "20",
}


@dataclass
class Cluster:
    """Everything that faults act on. `interrupted` collects what was in flight at each loss."""

    site: Site
    rng: random.Random
    broker: Valkey
    server: Postgres | None
    proxies: dict[str, list[Proxy]]
    fleet: WorkerFleet
    database: Database
    ledger: Path
    #: The batch that is worked on, whose papers are cancelled.
    batch: str = "siege"
    interrupted: list[frozenset[Attempt]] = field(default_factory=list)
    _accounted: int = 0
    _running: list[threading.Thread] = field(default_factory=list)
    _errors: list[str] = field(default_factory=list)

    def inject(self, kind: str) -> str:
        """Inject a fault, in a thread if it lasts; returns its target."""
        strikes: dict[str, Callable[[], str]] = {
            "kill": self._kill,
            "drain": self._drain,
            "broker": self._restart_broker,
            "flush": self._flush,
            "database": self._restart_database,
            "drop": self._drop,
            "freeze": self._freeze,
            "partition": self._partition,
            "cancel": self._cancel,
            "promote": self._promote,
        }
        return strikes[kind]()

    def wait(self) -> list[str]:
        """Wait for all lasting faults; returns their errors."""
        for thread in self._running:
            thread.join()
        return self._errors

    def record_exits(self) -> None:
        """Record the jobs of workers that a deadly paper ended."""
        for death in self.fleet.exits[self._accounted :]:
            self._accounted += 1
            # The worker that replaces it may have recovered the jobs already.
            self.interrupted.append(self._held({death.pid}) | self._recovered())

    def _kill(self) -> str:
        worker = self._any_worker()
        self.fleet.kill(worker)
        return self._lose(worker)

    def _drain(self) -> str:
        worker = self._any_worker()
        self.fleet.drain(worker)
        return f"worker {worker.pid}"

    def _freeze(self) -> str:
        worker = self._any_worker()
        freeze(worker)
        told = self._lose(worker)
        self._later(OUTLAST_SECONDS, lambda: thaw(worker))
        return told

    def _lose(self, *workers: WorkerProcess) -> str:
        held = self._held({worker.pid for worker in workers})
        self.interrupted.append(held)
        return f"workers {[w.pid for w in workers]}, {len(held)} papers in flight"

    def _partition(self) -> str:
        host = self.rng.choice(HOSTS)
        for proxy in self.proxies[host]:
            proxy.close()
        told = self._lose(*self.fleet.living(host)) if self.server else "broker only"
        self._later(OUTLAST_SECONDS, lambda: self._restore(host))
        return f"host {host}: {told}"

    def _restore(self, host: str) -> None:
        for proxy in self.proxies[host]:
            proxy.open()

    def _drop(self) -> str:
        host = self.rng.choice(HOSTS)
        return f"host {host}: {sum(p.drop() for p in self.proxies[host])} connections"

    def _restart_broker(self) -> str:
        self.broker.kill()
        self._later(BROKER_DOWN_SECONDS, self.broker.start_again)
        return f"down for {BROKER_DOWN_SECONDS} s"

    def _flush(self) -> str:
        try:
            with redis.Redis.from_url(self.broker.url) as client:
                client.flushall()
        except redis.RedisError:
            return "the broker was down"
        return "FLUSHALL"

    def _restart_database(self) -> str:
        if self.server is not None:
            self._later(0.0, self.server.kill_and_start)
            return "immediate restart"
        self._later(0.0, self._hold_lock)
        return f"lock held for {LOCK_SECONDS} s"

    def _hold_lock(self) -> None:
        path = str(self.site.home / "referee.db")
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as holder:
            holder.execute("BEGIN EXCLUSIVE")
            time.sleep(LOCK_SECONDS)
            holder.execute("ROLLBACK")

    def _cancel(self) -> str:
        def live() -> list[str]:
            query = select(Job.custom_id).where(Job.state.in_(("queued", "running")))
            with self.database.read() as on:
                return list(on.scalars(query.order_by(Job.state.desc(), Job.id).limit(60)))

        waiting = self._surely(live)
        chosen = self.rng.sample(waiting, min(CANCELLED_AT_ONCE, len(waiting)))
        ids = [word for name in chosen for word in ("--id", name)]
        self._later(0.0, lambda: self._run("cancel", self.batch, *ids))
        return f"papers {chosen}"

    def _promote(self) -> str:
        """Make a new version of the reviewer, as promoting an adapter does: the running batch must
        go on with the one that it was begun with."""
        promoted = replace(load(builtin()["demo-7"]), temperature=0.5)
        self._later(
            0.0, lambda: self._surely(lambda: roster.register_version(self.database, promoted))
        )
        return "demo-7 version 2"

    def _run(self, *arguments: str) -> None:
        # The database may be unavailable; an operator would try again.
        for _ in range(20):
            done = self.site.run(*arguments)
            if done.code == 0:
                return
            time.sleep(1.0)
        self._errors.append(f"referee {' '.join(arguments)}: {done.err}")

    def _later(self, seconds: float, action: Callable[[], object]) -> None:
        def act() -> None:
            time.sleep(seconds)
            try:
                action()
            except Exception as error:
                self._errors.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=act, daemon=True)
        self._running.append(thread)
        thread.start()

    def _any_worker(self) -> WorkerProcess:
        while not (living := self.fleet.living()):
            time.sleep(0.1)
        return self.rng.choice(living)

    def _held(self, pids: set[int]) -> frozenset[Attempt]:
        """Jobs that these processes hold according to the database. They can claim no more."""
        time.sleep(0.1)  # until a COMMIT in transit has arrived

        named = select(WorkerNodeRow.name).where(WorkerNodeRow.pid.in_(pids))
        query = select(Job.id, Job.attempt).where(Job.state == "running", Job.worker.in_(named))
        return self._attempts(query)

    def _recovered(self) -> frozenset[Attempt]:
        """Jobs of earlier processes that restarted workers recovered, without those seen before."""
        query = select(JobEvent.job_id, JobEvent.attempt).where(JobEvent.kind == "worker_died")
        return self._attempts(query).difference(*self.interrupted)

    def _attempts(self, query: Select[int, int]) -> frozenset[Attempt]:
        def ask() -> frozenset[Attempt]:
            with self.database.read() as on:
                return frozenset(Attempt(job, attempt) for job, attempt in on.execute(query))

        return self._surely(ask)

    def _surely(self, ask: Callable[[], T]) -> T:
        while True:
            with suppress(DatabaseUnavailable):
                return ask()
            time.sleep(0.05)


@contextmanager
def prepare(folder: Path, dialect: str, seed: int, command: tuple[str, ...]) -> Iterator[Cluster]:
    """Servers, proxies and a migrated database; no worker runs yet."""
    loop = Loop()
    broker = Valkey(folder / "broker")
    if dialect == "sqlite":
        yield from _cluster(folder, seed, loop, broker, None, command)
        return
    with postgres() as server:
        yield from _cluster(folder, seed, loop, broker, server, command)


def _cluster(
    folder: Path,
    seed: int,
    loop: Loop,
    broker: Valkey,
    server: Postgres | None,
    command: tuple[str, ...],
) -> Iterator[Cluster]:
    ledger = folder / "ledger"
    direct = {"REFEREE_BROKER_URL": broker.url} | _TIMES | SCRIPTED
    direct |= {"SCRIPTED_LEDGER": str(ledger), "SCRIPTED_SLOTS": str(SLOTS)}
    if server is not None:
        direct["REFEREE_DATABASE_URL"] = server.url
    site = Site(folder / "home", direct)
    assert site.run("db", "upgrade").code == 0
    hosts: dict[str, dict[str, str]] = {}
    proxies: dict[str, list[Proxy]] = {}
    for host in HOSTS:
        proxies[host], urls = _proxied(loop, broker, server)
        hosts[host] = direct | {"REFEREE_HOME": str(site.home)} | urls
    database = open_database(
        direct.get("REFEREE_DATABASE_URL", f"sqlite:///{site.home}/referee.db")
    )
    fleet = WorkerFleet(hosts, WORKERS_A_HOST, folder / "logs", command)
    try:
        rng = random.Random(f"{seed} targets")
        yield Cluster(site, rng, broker, server, proxies, fleet, database, ledger)
    finally:
        fleet.stop(60)
        database.close()
        for proxy in (proxy for host in HOSTS for proxy in proxies[host]):
            proxy.close()
        loop.close()
        broker.stop()


def _proxied(
    loop: Loop, broker: Valkey, server: Postgres | None
) -> tuple[list[Proxy], dict[str, str]]:
    """Proxies of one host to the servers, and their URLs."""
    to_broker = Proxy(loop, Upstream(port=broker.port))
    urls = {"REFEREE_BROKER_URL": f"redis://127.0.0.1:{to_broker.port}/0"}
    if server is None:
        return [to_broker], urls
    to_database = Proxy(loop, Upstream(socket=server.socket))
    urls["REFEREE_DATABASE_URL"] = server.through(to_database.port)
    return [to_broker, to_database], urls
