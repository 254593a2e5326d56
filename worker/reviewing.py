"""The one review task: claim, generate, parse, gate, commit. Knows no Celery and no model.

Its promise: whatever is raised, the claimed job ends in a state that the database agrees to, and
the thread that ran it is free again.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import asdict

from db import events, jobs
from db.session import Database, DatabaseUnavailable
from errors import GiveUp, RetryLater
from models import gate
from models.engine import Generation, ReviewRequest
from models.parse import parse
from models.review import GateResult, Review
from models.reviewer import ReviewerConfig, from_json
from settings import Settings
from worker.contact import Contact
from worker.engines import EnginePool
from worker.in_flight import InFlight, Stopped

log = logging.getLogger("referee.worker")

#: A rejected review is generated again at most this often (design section 2, step 5).
MAX_RESAMPLES = 2
#: A re-sample needs some randomness to come out differently.
RESAMPLE_TEMPERATURE = 0.7
#: Longest wait between two attempts at a job, in seconds.
MAX_BACKOFF_SECONDS = 600.0
#: Wait between two tries at a commit while the database is away, in seconds.
COMMIT_RETRY_SECONDS = 1.0


class Reviewer:
    """Does one job at a time for each thread that calls `review_next`."""

    def __init__(
        self,
        *,
        database: Database,
        engines: EnginePool,
        in_flight: InFlight,
        contact: Contact,
        worker: str,
        queue: str,
        settings: Settings,
    ) -> None:
        self._database = database
        self._engines = engines
        self._in_flight = in_flight
        self._contact = contact
        self._worker = worker
        self._queue = queue
        self._settings = settings

    def review_next(self) -> bool:
        """Claim the best job of the queue, if there is one, and bring it to an end.

        False: this worker drains, and the doorbell should ring for another.
        """
        if self._in_flight.closed:
            return False
        claim = self._claim() if self._engines.alive else None
        if claim is None:
            return True
        self._log("claim", claim)
        with self._in_flight.holding(claim):
            self._settle(claim)
            return self._in_flight.why_stopped(claim) is not Stopped.DRAINING

    def _claim(self) -> jobs.Claim | None:
        try:
            return jobs.claim(
                self._database,
                queue=self._queue,
                worker=self._worker,
                lease_seconds=self._settings.lease_seconds,
                max_attempts=self._settings.max_attempts,
                may_take_over=self._contact.answered,
            )
        except DatabaseUnavailable as error:
            # The doorbell is lost with this; reconcile rings again when the database is back.
            log.warning("%s", error)
            return None

    def _settle(self, claim: jobs.Claim) -> None:
        """Carry a job out and turn whatever happened into its next state."""
        try:
            review = self._write_review(claim)
            self._commit(claim, review)
        except CancelledError:
            self._stopped(claim)
        except GiveUp as error:
            jobs.fail(self._database, claim, kind=error.kind, sentence=str(error))
            self._log("fail", claim, reason=str(error))
        except RetryLater as error:
            self._give_back(claim, str(error))
        except BaseException as error:
            # A MemoryError or SystemExit that leaves a task costs celery's pool its thread.
            self._give_back(claim, f"{type(error).__name__}: {error}", traceback.format_exc())

    def _write_review(self, claim: jobs.Claim) -> jobs.NewReview:
        """Generate until the gate passes, at most MAX_RESAMPLES times again."""
        config = from_json(claim.reviewer.config)
        engine = self._engines.engine_for(claim.reviewer.sha256, config, claim.allow_external)
        for sample in range(1 + MAX_RESAMPLES):
            request = _request(config, claim, sample)
            generation = self._in_flight.wait(claim, engine, request)
            review = parse(generation.text, config.aspect_set)
            result = _check(config, claim, generation, review)
            if result.passed:
                return _record(request, generation, review, result, dict(engine.versions))
            self._reject(claim, generation, result)
        raise GiveUp(
            f"{1 + MAX_RESAMPLES} answers failed the gate: {_failed(result)}.", kind="gate"
        )

    def _reject(self, claim: jobs.Claim, generation: Generation, result: GateResult) -> None:
        detail = {"failed": _failed(result), "text": generation.text}
        events.record_event(self._database, claim.job_id, claim.attempt, "rejected", detail)
        self._log("reject", claim, reason=_failed(result))

    def _commit(self, claim: jobs.Claim, review: jobs.NewReview) -> None:
        """Write the review; wait out a database that is away, since the text cost minutes."""
        committed = _patiently(
            lambda: jobs.commit_review(self._database, claim, review), self._settings.lease_seconds
        )
        self._log("commit" if committed else "lost", claim, seconds=round(review.seconds, 2))

    def _stopped(self, claim: jobs.Claim) -> None:
        """The engine cancelled the request: say why in the database."""
        match self._in_flight.why_stopped(claim):
            case Stopped.CANCELLED:
                jobs.cancelled(self._database, claim)
                self._log("cancelled", claim)
            case Stopped.DRAINING:
                jobs.release(self._database, claim, reason="worker draining", keep_attempt=True)
                self._log("give back", claim, reason="worker draining")
            case Stopped.LOST:
                self._log("lost", claim)
            case None:
                self._give_back(claim, "the engine cancelled the paper unasked")

    def _give_back(self, claim: jobs.Claim, reason: str, details: str = "") -> None:
        if details:
            log.error("%s", details)
        delay = min(self._settings.retry_seconds * 2 ** (claim.attempt - 1), MAX_BACKOFF_SECONDS)
        _patiently(
            lambda: jobs.release(self._database, claim, reason=reason, delay_seconds=delay),
            self._settings.lease_seconds,
        )
        self._log("give back", claim, reason=reason)

    def _log(self, action: str, claim: jobs.Claim, **more: object) -> None:
        about = {"action": action, "job": claim.job_id, "attempt": claim.attempt}
        about |= {"custom_id": claim.custom_id, "batch": claim.batch_name}
        log.info("%s", action, extra={"about": about | {"worker": self._worker} | more})


def _request(config: ReviewerConfig, claim: jobs.Claim, sample: int) -> ReviewRequest:
    temperature = max(config.temperature, RESAMPLE_TEMPERATURE) if sample else None
    return config.request(
        f"{claim.job_id}.{claim.attempt}.{sample}",
        claim.body,
        claim.seed + sample,
        temperature=temperature,
    )


def _check(
    config: ReviewerConfig, claim: jobs.Claim, generation: Generation, review: Review
) -> GateResult:
    return gate.check(
        review,
        aspects=config.aspect_set,
        raw=generation.text,
        system=config.system_prompt,
        paper_text=claim.body,
        finish=generation.finish,
        n_output_tokens=generation.n_output_tokens,
        config=config.gate,
    )


def _failed(result: GateResult) -> str:
    failed = [check for check in result.checks if check.fatal and not check.passed]
    return "; ".join(f"{check.name} ({check.detail})" for check in failed)


def _record(
    request: ReviewRequest,
    generation: Generation,
    review: Review,
    result: GateResult,
    versions: dict[str, str],
) -> jobs.NewReview:
    return jobs.NewReview(
        raw=generation.text,
        items=tuple(jobs.NewItem(i.aspect, i.position, i.title, i.text) for i in review.items),
        empty_aspects=review.empty_aspects,
        unplaced=review.unplaced,
        adapter_sha256=generation.adapter_sha256,
        seed=request.seed,
        n_prompt_tokens=generation.n_prompt_tokens,
        n_output_tokens=generation.n_output_tokens,
        truncated_tokens=generation.truncated_tokens,
        finish=generation.finish,
        seconds=generation.seconds_generating,
        gate=[asdict(check) for check in result.checks],
        versions=versions,
    )


def _patiently(write: Callable[[], bool], seconds: float) -> bool:
    """Repeat a fenced write until the database takes it or the lease must have run out."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return write()
        except DatabaseUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(COMMIT_RETRY_SECONDS)
