"""Crash isolation: the number of jobs that run beside one that was in a crash."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.crash_isolation import CrashIsolation


@given(st.integers(1, 200), st.lists(st.integers(0, 6), max_size=200))
def test_jobs_never_run_beside_more_others_than_their_crashes_allow(
    slots: int, crashes: list[int]
) -> None:
    isolation = CrashIsolation(slots)
    held: list[int] = []
    for each in crashes:
        crash_filter = isolation.crash_filter(held)
        if (
            crash_filter is not None
            and crash_filter.min_crashes <= each <= crash_filter.max_crashes
        ):
            held.append(each)
        assert len(held) <= min(map(isolation.limit, held), default=0)
        # An isolated job runs alone.
        if crash_filter is not None and max(held, default=-1) >= crash_filter.alone_from:
            assert len(held) == 1
    # A few crashes lead to isolation, and an empty worker accepts any job.
    assert isolation.limit(4) == 1
    assert isolation.crash_filter([]) is not None
