"""How a worker's last papers ended: a sick card writes plausible garbage, or nothing at all."""

from __future__ import annotations

import math
import threading
import time
from collections import deque

from db.worker_nodes import GateCounts

#: Papers that are looked back at.
WINDOW = 20
#: How many times the fleet's rate a worker may have.
MAX_RATIO_TO_FLEET = 5.0
#: Fewer failures than this prove nothing: at a fleet's rate of 1 %, five of twenty come about by
#: chance once in 90,000 windows, three once in 1,000.
MIN_FAILURES = 5
#: So many different papers without an answer in a row are the worker's doing, whatever the fleet's
#: rate: of papers of which even 1 % cannot be answered, five follow each other once in 10^10.
UNANSWERED_IN_A_ROW = 5


class SelfCheck:
    """The ends of the last papers, for all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: deque[bool] = deque(maxlen=WINDOW)
        self._answers = 0
        self._rejections = 0
        #: Jobs that ended without an answer since the last one that had one.
        self._unanswered: set[int] = set()
        self._unanswered_at = -math.inf

    def note_answer(self, *, passed: bool) -> None:
        """Note whether a paper's first answer passed the gate; later ones have other seeds."""
        with self._lock:
            self._last.append(passed)
            self._answers += 1
            self._rejections += not passed
            self._unanswered.clear()

    def note_unanswered(self, job_id: int, reason: str, *, since: float = math.inf) -> str | None:
        """Note that a paper ended without an answer; give why the worker should stop, if it should.

        `since` is when the paper was taken, if what ended it ends all that are in flight: of those
        only the first counts, and then one that was taken after it.
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
        """Papers answered since the start, and how many failed at first."""
        with self._lock:
            return GateCounts(self._answers, self._rejections)

    def forget(self) -> None:
        """Look at new papers only: an operator has seen to the worker."""
        with self._lock:
            self._last.clear()
            self._unanswered.clear()

    def needs_comparison(self) -> bool:
        """Whether the fleet should be asked; False for most workers at most times."""
        with self._lock:
            return len(self._last) == WINDOW and self._failures() >= MIN_FAILURES

    def complaint(self, fleet: GateCounts) -> str | None:
        """Why this worker should stop, held against the others' counts; None when it should not.

        Nobody to compare with is no reason: then it may be the papers.
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
