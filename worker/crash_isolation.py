"""How many papers may share an engine with one that was in crashes.

When an engine breaks down, each of its papers may be the cause, and most are not. So they are tried
again in a quarter of the company, and again, until the cause is alone (group testing: Dorfman 1943,
doi:10.1214/aoms/1177731363): with 96 slots in 24s, 6s and one by one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import count

from db.claims import ONE_AT_A_TIME, CrashFilter

#: The company shrinks to one part in so many with each crash.
GROUP_DIVISOR = 4


@dataclass(frozen=True)
class CrashIsolation:
    """The rule for a worker with so many slots."""

    slots: int

    def limit(self, crashes: int) -> int:
        """Papers that may be in the engine together with one that was in so many crashes."""
        return max(1, self.slots // int(GROUP_DIVISOR**crashes))

    def crash_filter(self, held: Collection[int]) -> CrashFilter | None:
        """Which papers may come to those held, given by their crashes; None: none at all.

        To papers that were in crashes only others that were come, or they would spoil more.
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
