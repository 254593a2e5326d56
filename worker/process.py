"""One worker process: load the engine, register, consume doorbells, drain on SIGTERM.

Jobs are run by `worker.job_runner`.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import platform
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from celery import Celery, signals
from celery.exceptions import Reject

from db import reconcile, worker_nodes
from db.session import Database, open_database, require_current
from dispatch.adapter_cache import AdapterCache
from dispatch.app import REVIEW_TASK, make_app
from dispatch.broker import require
from dispatch.doorbell import Announcer, QueueDoorbell
from models.text.reviewer import ReviewerConfig
from settings import Settings
from worker.database_liveness import DatabaseLiveness
from worker.engines import EnginePool, Weights, load_local
from worker.gpu_sharing import require_unshared_gpu, used_gpu
from worker.identity import identify_worker, register_worker
from worker.idle import IdleWatch
from worker.in_flight import InFlight
from worker.job_runner import JobRunner
from worker.keeper import Keeper
from worker.logs import identify
from worker.metrics import Metrics
from worker.preemption import Preemption
from worker.self_check import SelfCheck
from worker.single_host import require_single_host
from worker.subscription import Subscription
from worker.watchdog import watch

log = logging.getLogger("referee.worker")

#: Set by a supervisor for its children: they end with it, even if it is killed.
SUPERVISED = "REFEREE_SUPERVISED"
#: Names the file by which a supervisor's child shows that it has ended a paper as it should.
HEALTH_FILE_VARIABLE = "REFEREE_PROOF"
#: Exit code of a worker whose engine is lost; its supervisor then starts another.
EXIT_ENGINE_LOST = 70
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class WorkerOptions:
    """Options of `referee worker`; a cpu worker has no reviewer."""

    reviewer: ReviewerConfig | None
    slots: int | None
    weights: Weights
    #: Exit after this many seconds without work; None: never.
    exit_when_idle_seconds: float | None = None


def run(options: WorkerOptions, settings: Settings) -> int:
    """Run a worker until it is told to stop; returns the exit code."""
    _set_parent_death_signal()
    _prepare_libraries()
    broker = require(settings)
    database = open_database(settings.database)
    require_current(database)
    require_single_host(database, broker.url, lease_seconds=settings.lease_seconds)
    gpu = _require_gpu(options, settings, database)
    engines = _open_engines(options, settings, database)
    try:
        return _consume(options, settings, database, engines, make_app(broker.url, settings), gpu)
    finally:
        engines.close()
        database.close()


def _require_gpu(options: WorkerOptions, settings: Settings, database: Database) -> str:
    """The GPU of this worker, which no worker of another base model holds; empty without one."""
    if options.reviewer is None or options.reviewer.base is None:
        return ""
    gpu = used_gpu()
    require_unshared_gpu(database, gpu, options.reviewer.base, settings)
    return gpu


def _open_engines(options: WorkerOptions, settings: Settings, database: Database) -> EnginePool:
    if options.reviewer is None:
        # Imported late: a worker that asks no server need not load an HTTP client.
        from worker.api_engines import ApiEngines

        return ApiEngines(settings)
    cache = AdapterCache(database, settings.home)
    return load_local(options.reviewer, settings, cache.folder, options.weights, options.slots)


def _consume(
    options: WorkerOptions,
    settings: Settings,
    database: Database,
    engines: EnginePool,
    app: Celery,
    gpu: str,
) -> int:
    slots = min(options.slots or engines.slots, engines.slots)
    described = identify_worker(options.reviewer, gpu, slots, engines, settings)
    identity = register_worker(database, described)
    identify(identity.name, identity.gpu)
    _recover(database, identity.name, settings.max_attempts)
    metrics, self_check = Metrics(settings, identity.gpu), SelfCheck()
    in_flight = InFlight()
    liveness = DatabaseLiveness(settings.lease_seconds)
    runner = JobRunner(
        database=database,
        engines=engines,
        in_flight=in_flight,
        worker=identity.name,
        queues=identity.queues,
        settings=settings,
        metrics=metrics,
        self_check=self_check,
        ring=QueueDoorbell(app, identity.queue).ring,
        on_result=_mark_healthy,
    )
    keeper = Keeper(
        identity=identity,
        database=database,
        announce=Announcer(app).announce,
        subscription=Subscription(identity.queues),
        in_flight=in_flight,
        engines=engines,
        liveness=liveness,
        settings=settings,
        metrics=metrics,
        self_check=self_check,
        idle_watch=_idle_watch(options, database, identity.queues, in_flight),
    )

    @app.task(name=REVIEW_TASK)  # type: ignore[untyped-decorator] # celery has no types
    def review(batch: str | None = None) -> None:
        if not runner.run_waiting_jobs():
            raise Reject("draining", requeue=True)

    keeper.beat()
    keeper.start()
    preemption = Preemption(identity, database, in_flight, settings)
    # A call of an API that is given up is paid all the same.
    if settings.preemption and options.reviewer is not None:
        preemption.start()
    _drain_on_shutdown(in_flight, settings.drain_seconds)
    _stop_on(keeper.engine_lost, "engine lost", logging.ERROR)
    _stop_on(keeper.idle, "idle", logging.INFO)
    watch(lambda: engines.silent_seconds, settings.watchdog_seconds, EXIT_ENGINE_LOST)
    try:
        run_celery(app, identity.name, identity.queues, identity.slots)
    finally:
        preemption.stop()
        keeper.stop()
    if keeper.engine_lost.is_set():
        # It stays entered: the worker in its place is asked what this one was, a drain for one.
        return EXIT_ENGINE_LOST
    worker_nodes.unregister_worker(database, identity.name)
    return 0


def run_celery(app: Celery, name: str, queues: Sequence[str], slots: int) -> None:
    """Consume until a signal. Returns after every running task has ended."""
    worker: Any = app.Worker(
        hostname=name,
        queues=list(queues),
        pool="threads",
        concurrency=slots,
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    log.info("ready", extra={"about": {"action": "ready", "worker": name, "slots": slots}})
    # What was imported and loaded stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    # Celery ends its own shutdown with SystemExit.
    with suppress(SystemExit):
        worker.start()


def _drain_on_shutdown(in_flight: InFlight, seconds: float) -> None:
    """Start to drain when Celery is told to stop.

    Celery's handler only sets a flag and then waits for the task threads, so draining has to run in
    a thread of its own: the signal handler must not block.
    """
    # Not an Event: a second signal may come while the first is handled, in the same thread, and
    # would wait for the lock that this one holds. A supervisor's child often gets two.
    asked: SimpleQueue[None] = SimpleQueue()

    def drain() -> None:
        asked.get()
        in_flight.drain(seconds)

    def ask(**_: Any) -> None:
        asked.put(None)

    signals.worker_shutting_down.connect(ask, weak=False)
    threading.Thread(target=drain, name="drain", daemon=True).start()


def _idle_watch(
    options: WorkerOptions, database: Database, queues: Sequence[str], in_flight: InFlight
) -> IdleWatch | None:
    if options.exit_when_idle_seconds is None:
        return None
    return IdleWatch(database, queues, in_flight, options.exit_when_idle_seconds)


def _recover(database: Database, name: str, max_attempts: int) -> None:
    """Requeue the jobs of this worker's previous process now, not when their leases expire."""
    n_left = reconcile.recover(database, worker=name, max_attempts=max_attempts)
    if n_left:
        about = {"action": "recover", "worker": name, "papers": n_left}
        log.warning("recover", extra={"about": about})


def _mark_healthy() -> None:
    """Show the supervisor, if there is one, that this process has done work."""
    if HEALTH_FILE_VARIABLE in os.environ:
        Path(os.environ[HEALTH_FILE_VARIABLE]).touch()


def _stop_on(event: threading.Event, action: str, level: int) -> None:
    def watch() -> None:
        event.wait()
        log.log(level, "%s", action, extra={"about": {"action": action}})
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name=f"watch for {action}", daemon=True).start()


def _prepare_libraries() -> None:
    """Set what torch and the client of the hub read when they are first imported."""
    # Threads that spin for work starve each other as soon as anything else wants the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A worker loads what is here; only `referee model fetch` asks the hub.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # bitsandbytes marks functions for torch's compiler, whose import takes 2 s; none is used here.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


def _set_parent_death_signal() -> None:
    """Ask the kernel for SIGTERM when the supervisor dies, however it dies (Linux only)."""
    if SUPERVISED not in os.environ or platform.system() != "Linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(os.environ[SUPERVISED]):
        sys.exit(0)  # it had died already
