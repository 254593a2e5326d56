"""The maintenance thread of a worker: leases, cancellations, heartbeats, reconcile.

Everything here may fail while the database is unavailable and is repeated at the next beat; what
must not be lost is in the database. No beat waits for the broker.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict

from db import claims, reconcile, worker_nodes
from db.session import Database, DatabaseUnavailable
from db.worker_nodes import DesiredState
from settings import Settings
from worker.database_liveness import DatabaseLiveness
from worker.engines import EnginePool
from worker.identity import Identity
from worker.idle import IdleWatch
from worker.in_flight import InFlight, StopReason
from worker.metrics import Metrics
from worker.self_check import SelfCheck
from worker.subscription import Subscription

log = logging.getLogger("referee.keeper")

#: The desired state of a worker that has just registered.
ACTIVE = DesiredState("active", None)


class Keeper(threading.Thread):
    """Runs a round of maintenance every third of a lease until it is stopped."""

    def __init__(
        self,
        *,
        identity: Identity,
        database: Database,
        announce: Callable[[Mapping[str, int]], object],
        subscription: Subscription,
        in_flight: InFlight,
        engines: EnginePool,
        liveness: DatabaseLiveness,
        settings: Settings,
        metrics: Metrics,
        self_check: SelfCheck,
        idle_watch: IdleWatch | None = None,
    ) -> None:
        super().__init__(name="keeper", daemon=True)
        self._identity = identity
        self._database = database
        self._announce = announce
        self._subscription = subscription
        self._in_flight = in_flight
        self._engines = engines
        self._liveness = liveness
        self._settings = settings
        self._metrics = metrics
        self._self_check = self_check
        self._idle_watch = idle_watch
        self._stop_event = threading.Event()
        self._next_reconcile = 0.0
        self._beat_seconds = min(settings.lease_seconds / 3, settings.reconcile_seconds)
        self._state = ACTIVE.state
        self._give_back_at = math.inf
        #: Set when the engine is lost; the process then exits with a non-zero code.
        self.engine_lost = threading.Event()
        #: Set when the worker was idle for as long as the limit; nothing is claimed then.
        self.idle = threading.Event()

    def run(self) -> None:
        """Run rounds until stopped, whatever fails in one: without the next one leases expire."""
        while not self._stop_event.wait(self._pause()):
            try:
                self.beat()
            except Exception:
                log.exception("a beat failed")
                if self._idle_watch is not None:
                    self._idle_watch.reset()

    def stop(self) -> None:
        """End the thread after the current round."""
        self._stop_event.set()
        self.join()

    def beat(self) -> None:
        """One round; if the database is unavailable, only this round is skipped."""
        if not self._engines.alive:
            self.engine_lost.set()
        try:
            self._renew()
            self._send_heartbeat()
            self._drain_if_unhealthy()
            self._reconcile_if_due()
            self._check_idle()
        except DatabaseUnavailable as error:
            log.warning("%s", error)
            if self._idle_watch is not None:
                self._idle_watch.reset()
        self._metrics.state(
            slots=self._identity.slots,
            in_use=len(self._in_flight.attempts()),
            draining=self._state == "draining",
        )

    def _send_heartbeat(self) -> None:
        """Send a heartbeat, and read whether an operator wants this worker to drain."""
        me = self._identity
        desired = worker_nodes.heartbeat(
            self._database, me.name, reviewer=me.reviewer, gate=self._self_check.counts()
        )
        if desired is None:
            worker_nodes.register_worker(self._database, **asdict(me), replaced_pid=me.pid)
        self._apply_desired_state(desired or ACTIVE)
        self._liveness.record_answer()

    def _apply_desired_state(self, desired: DesiredState) -> None:
        draining = desired.state == "draining"
        if desired.state != self._state:
            self._self_check.forget()
            about = {"action": desired.state, "worker": self._identity.name}
            log.info("%s", desired.state, extra={"about": about})
        self._state = desired.state
        self._subscription.listen(not draining)
        self._in_flight.pause(draining or self.idle.is_set())
        left = math.inf if desired.give_back_in_s is None else desired.give_back_in_s
        self._give_back_at = time.monotonic() + left
        if left <= 0:
            self._in_flight.give_back()

    def _drain_if_unhealthy(self) -> None:
        """Stop claiming if this GPU seems faulty, and report it; an operator resumes it."""
        if self._state == "draining" or not self._self_check.needs_comparison():
            return
        me = self._identity
        others = worker_nodes.gate_counts_of_others(self._database, me.name, me.queue)
        complaint = self._self_check.complaint(others)
        if complaint is not None:
            worker_nodes.drain_with_complaint(self._database, me.name, complaint)
            log.error("%s", complaint, extra={"about": {"action": "sick", "worker": me.name}})
            self._apply_desired_state(DesiredState("draining", None))

    def _pause(self) -> float:
        """Seconds until the next round: fewer if papers are to be requeued before it."""
        left = self._give_back_at - time.monotonic()
        return min(left, self._beat_seconds) if left > 0 else self._beat_seconds

    def _renew(self) -> None:
        held = self._in_flight.attempts()
        if not held:
            return
        renewal = claims.renew(
            self._database,
            worker=self._identity.name,
            held=held,
            lease_seconds=self._settings.lease_seconds,
        )
        self._in_flight.stop(renewal.cancelled, StopReason.CANCELLED)
        self._in_flight.stop(renewal.lost, StopReason.LOST)

    def _check_idle(self) -> None:
        if self._idle_watch is None or not self._idle_watch.over():
            return
        # From here on nothing is claimed, so that a second check is final.
        self._in_flight.pause(True)
        if self._idle_watch.has_live_jobs():
            self._in_flight.pause(self._state == "draining")
            self._idle_watch.reset()
            return
        self.idle.set()

    def _reconcile_if_due(self) -> None:
        if time.monotonic() < self._next_reconcile:
            return
        self._next_reconcile = time.monotonic() + self._settings.reconcile_seconds
        due = reconcile.reconcile(
            self._database,
            max_attempts=self._settings.max_attempts,
            may_take_over=self._liveness.record_answer,
        )
        self._announce(due)
        if due:
            log.info("reconcile", extra={"about": {"action": "reconcile", "due": due}})
