"""How the last papers of a worker ended, to detect a faulty GPU or machine.

A faulty GPU may generate plausible nonsense, or nothing at all.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque

from db.worker_nodes import GateCounts

#: Number of the last papers that are considered.
WINDOW = 20
#: Maximum ratio of a worker's failure rate to the fleet's.
MAX_RATIO_TO_FLEET = 5.0
#: Fewer failures are not significant: at a fleet rate of 1 %, five of twenty occur by chance once
#: in 90,000 windows, three once in 1,000.
MIN_FAILURES = 5
#: So many different papers without an answer in a row are the worker's doing, whatever the fleet's
#: rate: of papers of which even 1 % cannot be answered, five follow each other once in 10^10.
UNANSWERED_IN_A_ROW = 5


class SelfCheck:
    """Results of the last papers, for all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: deque[bool] = deque(maxlen=WINDOW)
        self._answers = 0
        self._rejections = 0
        #: Jobs that ended without an answer since the last one that had one.
        self._unanswered: set[int] = set()
        self._unanswered_at = -math.inf

    def note_answer(self, *, passed: bool) -> None:
        """Record whether the first answer for a paper passed the gate.

        Later answers for it have other seeds.
        """
        with self._lock:
            self._last.append(passed)
            self._answers += 1
            self._rejections += not passed
            self._unanswered.clear()

    def note_unanswered(self, job_id: int, reason: str, *, since: float = math.inf) -> str | None:
        """Record that a paper ended without an answer; return why the worker should stop, if so.

        `since` is when the paper was claimed, if the failure ended all papers in flight: of those
        only the first counts, and then the first that was claimed after it.
        """
        with self._lock:
            if since < self._unanswered_at:
                return None
            self._unanswered.add(job_id)
            self._unanswered_at = time.monotonic()
            if len(self._unanswered) < UNANSWERED_IN_A_ROW:
                return None
            self._unanswered.clear()
        last = reason.partition("\n")[0].rstrip(".")
        return (
            f"{UNANSWERED_IN_A_ROW} different papers in a row ended here without an answer, the "
            f"last for this reason: {last}. Mend it, then `referee workers resume`"
        )

    def counts(self) -> GateCounts:
        """Papers answered since the start, and how many of them failed the gate at first."""
        with self._lock:
            return GateCounts(self._answers, self._rejections)

    def forget(self) -> None:
        """Consider new papers only: an operator has checked the worker."""
        with self._lock:
            self._last.clear()
            self._unanswered.clear()

    def needs_comparison(self) -> bool:
        """Whether to compare with the fleet; False for most workers at most times."""
        with self._lock:
            return len(self._last) == WINDOW and self._failures() >= MIN_FAILURES

    def complaint(self, fleet: GateCounts) -> str | None:
        """Why this worker should stop, compared with the other workers; None if it should not.

        Without other workers to compare with there is no reason to stop: the papers may be the
        cause.
        """
        with self._lock:
            failures = self._failures()
        if fleet.answers < WINDOW:
            return None
        rate = fleet.rejections / fleet.answers
        if failures / WINDOW <= MAX_RATIO_TO_FLEET * rate:
            return None
        return (
            f"{failures} of its last {WINDOW} papers failed the gate, against {rate:.1%} in the "
            "rest of the fleet: check its GPU, then `referee workers resume`"
        )

    def _failures(self) -> int:
        return sum(not passed for passed in self._last)
