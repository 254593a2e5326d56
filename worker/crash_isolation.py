"""Crash isolation: limit how many jobs share an engine with one that was in a crash.

When an engine crashes, each of its jobs may be the cause, and most are not. They are retried in
groups of a quarter of the size, and again, until the cause runs alone (group testing: Dorfman 1943,
doi:10.1214/aoms/1177731363): with 96 slots in groups of 24, 6 and 1.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import count

from db.claims import ONE_AT_A_TIME, CrashFilter

#: Each crash divides the size of the group by this.
GROUP_DIVISOR = 4


@dataclass(frozen=True)
class CrashIsolation:
    """The rule for a worker with a given number of slots."""

    slots: int

    def limit(self, crashes: int) -> int:
        """Maximum number of jobs in the engine together with one that was in so many crashes."""
        return max(1, self.slots // int(GROUP_DIVISOR**crashes))

    def crash_filter(self, held: Collection[int]) -> CrashFilter | None:
        """Which jobs may join the held ones, given the crashes of those; None if none may.

        Jobs that were in a crash are joined only by others that were, so that no further jobs are
        affected.
        """
        if not held:
            return CrashFilter(0, ONE_AT_A_TIME.max_crashes, self._alone_from)
        worst, n = max(held), len(held)
        if n >= self.limit(worst):
            return None
        most = next(level for level in count() if self.limit(level + 1) <= n)
        return CrashFilter(1 if worst else 0, most, self._alone_from)

    @property
    def _alone_from(self) -> int:
        return next(level for level in count() if self.limit(level) == 1)
