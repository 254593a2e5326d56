"""How much company a paper that was in crashes may have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.crash_isolation import Company


@given(st.integers(1, 200), st.lists(st.integers(0, 6), max_size=200))
def test_nobody_ever_gets_more_company_than_its_crashes_allow(
    slots: int, crashes: list[int]
) -> None:
    company = Company(slots)
    held: list[int] = []
    for each in crashes:
        room = company.room(held)
        if room is not None and room.least_crashes <= each <= room.most_crashes:
            held.append(each)
        assert len(held) <= min(map(company.limit, held), default=0)
        # Who is kept alone is alone.
        if room is not None and max(held, default=-1) >= room.alone_from:
            assert len(held) == 1
    # The way to being alone is short, and an empty worker takes anybody.
    assert company.limit(4) == 1
    assert company.room([]) is not None
