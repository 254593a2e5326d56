"""Runs jobs of every kind: claim, generate, read, commit.

Whatever is raised meanwhile, the claimed job ends in a state that the database accepts, and its
thread is free again. The request of a job, and how its answer is read and stored, is the matter of
its kind (`dispatch.kinds`).
"""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError

from db import claims, completion, job_events, reviewers, worker_nodes
from db.claims import Claim, CrashFilter
from db.session import Database, DatabaseUnavailable
from dispatch.kinds import KINDS, Accepted, Handler, Rejected, load_handler
from errors import EngineCrashed, EngineLost, GiveUp, NeverStarted, RetryLater
from settings import Settings
from worker.engines import EnginePool
from worker.hash_check import HashCheck, HashMismatch
from worker.in_flight import InFlight, StopReason
from worker.metrics import Metrics
from worker.self_check import SelfCheck

log = logging.getLogger("referee.worker")

#: Jobs per doorbell: a message costs about as much as a claim.
JOBS_A_DOORBELL = 20
#: Longest wait between two attempts at a job, in seconds.
MAX_BACKOFF_SECONDS = 600.0
#: How long a thread that may claim nothing holds a doorbell before it gives it back, in seconds.
PAUSED_SECONDS = 0.5
#: Wait between two tries of a write while the database is unavailable, in seconds.
WRITE_RETRY_SECONDS = 1.0


class JobRunner:
    """Runs one job at a time for each thread that calls `run_waiting_jobs`."""

    def __init__(
        self,
        *,
        database: Database,
        engines: EnginePool,
        in_flight: InFlight,
        worker: str,
        queues: Sequence[str],
        settings: Settings,
        metrics: Metrics,
        self_check: SelfCheck,
        ring: Callable[[], bool],
        on_result: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._engines = engines
        self._in_flight = in_flight
        self._worker = worker
        self._queues = queues
        self._settings = settings
        self._metrics = metrics
        self._self_check = self_check
        self._ring = ring
        self._on_result = on_result
        self._hashes = HashCheck(database)
        self._handlers: dict[str, Handler] = {}

    def run_waiting_jobs(self) -> bool:
        """Run jobs of the queues, the best first, until none waits.

        After some jobs it sends a doorbell and returns, so that other messages are handled too.
        False: this worker claims nothing more, and the doorbell should go to another.
        """
        if self._in_flight.paused:
            # Until the keeper unsubscribes, the same doorbell comes back at once.
            time.sleep(PAUSED_SECONDS)
        while all(self._run_next_job() for _ in range(JOBS_A_DOORBELL)):
            # Without a doorbell no other thread may come for a job that is held already.
            if not self._in_flight.has_claimed_for_others and self._ring():
                break
            # Else the broker is away, or rung by another slot
        return not self._in_flight.closed

    def _run_next_job(self) -> bool:
        """Claim the best job and run it. False: there is none for this worker."""
        claim = self._claim_next()
        if claim is None:
            return False
        try:
            self._log("claim", claim)
            self._metrics.claimed(claim.waited)
            self._metrics.ended(claim.kind, self._run_job(claim))
        finally:
            self._in_flight.leave(claim)
        return True

    def _claim_next(self) -> Claim | None:
        """Claim a job that may run beside those in flight, and hold it.

        The claiming thread also claims for the threads that wait.
        """
        while True:
            with self._in_flight.permit(lambda: self._engines.slots) as permit:
                if permit is None or isinstance(permit, Claim):
                    return permit
                if not self._engines.alive:
                    return None
                claimed = self._claim(1 + permit.others, permit.crash_filter)
                self._in_flight.hold(claimed)
                if claimed or not permit.crash_filter.min_crashes:
                    return claimed[0] if claimed else None
            # Papers that were in no crash may wait, but not join those that were.
            self._in_flight.wait_for_crashed_papers()

    def _claim(self, most: int, crash_filter: CrashFilter) -> list[Claim]:
        try:
            return claims.claim(
                self._database,
                most,
                queues=self._queues,
                kinds=KINDS,
                worker=self._worker,
                lease_seconds=self._settings.lease_seconds,
                max_attempts=self._settings.max_attempts,
                crash_filter=crash_filter,
            )
        except DatabaseUnavailable as error:
            # The doorbell is lost; reconcile sends another when the database is available again.
            log.warning("%s", error)
            return []

    def _run_job(self, claim: Claim) -> str:
        """Run a job, turn any error into its next state, and return how it ended."""
        try:
            return self._commit(claim, self._generate(claim))
        except CancelledError:
            return self._stopped(claim)
        except GiveUp as error:
            return self._fail(claim, error)
        except HashMismatch as error:
            return self._refuse(claim, str(error))
        except EngineCrashed as error:
            return self._crashed(claim, str(error))
        except NeverStarted as error:
            return self._release(claim, str(error), keep_attempt=True)
        except DatabaseUnavailable as error:
            # With a wait: it may take this, and time out over what the paper asks for.
            wait = self._backoff(claim)
            return self._release(claim, str(error), delay_seconds=wait, keep_attempt=True)
        except EngineLost as error:
            return self._unanswered(claim, str(error))
        except RetryLater as error:
            return self._postpone(claim, error)
        except BaseException as error:
            # A MemoryError or SystemExit that leaves a task costs celery's pool its thread.
            log.error("%s", traceback.format_exc())
            return self._unanswered(claim, f"{type(error).__name__}: {error}")

    def _generate(self, claim: Claim) -> Accepted:
        """Generate until the kind's handler accepts an answer, as often as it allows."""
        task = self._handler(claim.kind).open(claim)
        if isinstance(task, Accepted):
            return task
        engine = self._engines.engine_for(task.model, claim.allow_external)
        self._hashes.require(claim.reviewer, task.model, engine.versions)
        rejected: list[Rejected] = []
        for number in range(task.tries):
            request = task.request(number)
            generation = self._in_flight.wait(claim, engine, request)
            # An API client learns its server's version from the answer.
            outcome = task.read(request, generation, engine.versions)
            if number == 0:
                self._self_check.note_answer(passed=isinstance(outcome, Accepted))
            if isinstance(outcome, Accepted):
                return outcome
            self._reject(claim, outcome)
            rejected.append(outcome)
        return task.exhausted(rejected)

    def _handler(self, kind: str) -> Handler:
        if kind not in self._handlers:
            self._handlers[kind] = load_handler(kind, self._database)
        return self._handlers[kind]

    def _reject(self, claim: Claim, rejected: Rejected) -> None:
        job, attempt, detail = claim.job_id, claim.attempt, rejected.detail
        self._persist(
            claim, lambda: job_events.record_event(self._database, job, attempt, "rejected", detail)
        )
        self._metrics.rejected()
        self._log("reject", claim, reason=rejected.reason)

    def _commit(self, claim: Claim, accepted: Accepted) -> str:
        committed = self._persist(claim, accepted.commit)
        self._on_result()
        seconds = round(accepted.cost.seconds, 2)
        self._log("commit" if committed else "lost", claim, seconds=seconds)
        if committed:
            self._in_flight.note_result(claim)
            self._metrics.committed(accepted.cost)
        return "committed" if committed else "lost"

    def _fail(self, claim: Claim, error: GiveUp) -> str:
        kind, sentence = error.kind, str(error)
        self._persist(
            claim, lambda: completion.fail(self._database, claim, kind=kind, sentence=sentence)
        )
        self._log("fail", claim, reason=sentence)
        return "failed"

    def _refuse(self, claim: Claim, sentence: str) -> str:
        """Requeue the job, with its attempt, for workers whose hashes match."""
        self._drain_with_complaint(claim, "refuse", sentence)
        self._release(claim, sentence, keep_attempt=True)
        return "refused"

    def _drain_with_complaint(self, claim: Claim, action: str, sentence: str) -> None:
        """Claim no more jobs, and report why, until an operator resumes this worker."""
        self._in_flight.pause(True)
        log.error("%s", sentence, extra={"about": {"action": action, "job": claim.job_id}})
        self._persist(
            claim, lambda: worker_nodes.drain_with_complaint(self._database, self._worker, sentence)
        )

    def _stopped(self, claim: Claim) -> str:
        """The engine cancelled the request: store the reason."""
        match self._in_flight.why_stopped(claim):
            case StopReason.CANCELLED:
                self._persist(claim, lambda: completion.cancelled(self._database, claim))
                self._log("cancelled", claim)
                return "cancelled"
            case StopReason.DRAINING:
                return self._release(claim, "worker draining", keep_attempt=True)
            case StopReason.PREEMPTED:
                return self._preempted(claim)
            case StopReason.LOST:
                self._log("lost", claim)
                return "lost"
            case None:
                return self._unanswered(claim, "the engine cancelled the paper unasked")

    def _preempted(self, claim: Claim) -> str:
        urgent = self._in_flight.preempted_by(claim)
        assert urgent is not None
        self._persist(claim, lambda: completion.preempted(self._database, claim, by=urgent))
        self._log("preempted", claim, by=urgent.job_id)
        return "given back"

    def _crashed(self, claim: Claim, reason: str) -> str:
        self._in_flight.note_crash(claim)
        if claim.alone:
            # Papers that crash together are one crash, and one of them may be its cause.
            self._note_unanswered(claim, reason)
        self._persist(claim, lambda: completion.crashed(self._database, claim, reason=reason))
        self._log("crash", claim, reason=reason, crashes=claim.crashes + 1)
        return "given back"

    def _postpone(self, claim: Claim, error: RetryLater) -> str:
        if not error.wait_s:
            # A server that is unavailable for a moment fails all papers that were sent to it.
            return self._unanswered(claim, str(error), since=self._in_flight.since(claim))
        # A wait that the server asks for is not a failure of the paper.
        delay = max(self._backoff(claim), error.wait_s)
        return self._release(claim, str(error), delay_seconds=delay, keep_attempt=True)

    def _unanswered(self, claim: Claim, reason: str, since: float = math.inf) -> str:
        """Requeue the job after a failure, which uses up its attempt."""
        self._note_unanswered(claim, reason, since)
        return self._release(claim, reason, delay_seconds=self._backoff(claim))

    def _note_unanswered(self, claim: Claim, reason: str, since: float = math.inf) -> None:
        """Claim no more jobs if the failures are caused by this worker.

        Immediately: 200 a second fail on a full disk, and the next round of the keeper may be 15 s
        away.
        """
        if self._in_flight.paused:
            return  # it has complained, or an operator lets it drain
        complaint = self._self_check.note_unanswered(claim.job_id, reason, since=since)
        if complaint is not None and self._is_proven(claim):
            self._drain_with_complaint(claim, "sick", complaint)

    def _is_proven(self, claim: Claim) -> bool:
        """Whether any worker has had a result by the reviewer of this job.

        Otherwise the reviewer may be the cause, and one worker after the other would stop because
        of it.
        """
        version = claim.reviewer.id
        return self._persist(claim, lambda: reviewers.has_succeeded(self._database, version))

    def _backoff(self, claim: Claim) -> float:
        return min(self._settings.retry_seconds * 2.0 ** (claim.attempt - 1), MAX_BACKOFF_SECONDS)

    def _release(
        self,
        claim: Claim,
        reason: str,
        *,
        delay_seconds: float = 0.0,
        keep_attempt: bool = False,
    ) -> str:
        self._persist(
            claim,
            lambda: completion.release(
                self._database,
                claim,
                reason=reason,
                delay_seconds=delay_seconds,
                keep_attempt=keep_attempt,
            ),
        )
        self._log("give back", claim, reason=reason)
        return "given back"

    def _persist(self, claim: Claim, write: Callable[[], bool | None]) -> bool:
        """Repeat a fenced write, or a query, until the database accepts it.

        A text takes minutes to generate, and the fence decides whether it still counts. Only a
        worker whose drain is over leaves the job to its lease. False: nothing was written.
        """
        while True:
            try:
                return write() is not False
            except DatabaseUnavailable as error:
                stopped = self._in_flight.why_stopped(claim) is StopReason.DRAINING
                if stopped or self._in_flight.ending:
                    log.warning("%s", error)
                    return False
                time.sleep(WRITE_RETRY_SECONDS)

    def _log(self, action: str, claim: Claim, **more: object) -> None:
        about = {"action": action, "job": claim.job_id, "attempt": claim.attempt}
        about |= {"custom_id": claim.custom_id, "batch": claim.batch_name}
        log.info("%s", action, extra={"about": about | {"worker": self._worker} | more})
