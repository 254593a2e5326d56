"""Remove the line numbers of review copies from PDF pages.

Line numbers stand outside the text, beside one column or between two, with every line, every fifth
one or at a fixed pitch. They may restart on each page. A column of numbers counts as such when it
ascends in equal steps, is as dense as the lines of text, and is found on most pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from papers.pdf_page import Page
from papers.text_runs import TextRun

#: Digits of a line number.
MAX_DIGITS = 5
#: Fewer numbers in a column of a page prove nothing.
MIN_NUMBERS = 5
#: Points; the edges of the numbers of one column differ by less.
ALIGNED_PT = 2.0
#: Share of neighbouring numbers that ascend, and that ascend by the usual step.
ASCENDING, EQUAL_STEPS = 0.9, 0.6
#: Largest step: rulers count every line, every fifth or every tenth.
MAX_STEP = 10
#: Least numbers for each line of text; the lines of two columns need not have equal heights.
DENSITY = 0.35
#: Share of the page's prose that may cross the column of numbers: titles, wide captions.
MAX_CROSSING = 0.25
#: Characters of a run that counts as prose, and runs of prose on a page that counts as full.
PROSE_CHARS, FULL_PAGE = 20, 10
#: Share of the full pages that have line numbers, if the paper has.
NUMBERED_PAGES = 0.5


@dataclass(frozen=True)
class _Margin:
    """A place of line numbers: their left edges (side 0) or right edges (side 1) are at `x`."""

    side: int
    x: float

    def holds(self, run: TextRun) -> bool:
        return abs(_edge(self.side)(run) - self.x) < ALIGNED_PT


def without_line_numbers(pages: Sequence[Page]) -> list[Page]:
    """The same pages without their line numbers."""
    found = [list(_margins(page)) for page in pages]
    full = [index for index, page in enumerate(pages) if len(_prose(page)) >= FULL_PAGE]
    numbered = [index for index in full if found[index]]
    if not numbered or len(numbered) < NUMBERED_PAGES * len(full):
        return list(pages)
    margins = [margin for on_page in found for margin in on_page]
    return [_strip(page, margins) for page in pages]


def _margins(page: Page) -> Iterator[_Margin]:
    numbers = _numbers(page)
    if len(numbers) < MIN_NUMBERS:
        return
    prose, rows = _prose(page), _rows(page)
    for side in (0, 1):
        for column in _aligned(numbers, side):
            if _is_line_numbering(column, rows) and not _crosses(prose, column):
                edges = sorted(map(_edge(side), column))
                yield _Margin(side, edges[len(edges) // 2])


def _numbers(page: Page) -> list[TextRun]:
    return [
        part
        for run in page.runs
        for part in (run.parts or (run,))
        if len(part.text) <= MAX_DIGITS and part.text.isascii() and part.text.isdigit()
    ]


def _prose(page: Page) -> list[TextRun]:
    parts = (part for run in page.runs for part in (run.parts or (run,)))
    return [part for part in parts if len(part.text) >= PROSE_CHARS]


def _rows(page: Page) -> list[float]:
    """The heights of the lines of text, from the top."""
    rows: list[float] = []
    for run in sorted(page.runs, key=_centre):
        if run.text.isdigit():
            continue
        if not rows or _centre(run) - rows[-1] > 0.5 * run.height:
            rows.append(_centre(run))
    return rows


def _centre(run: TextRun) -> float:
    return (run.top + run.bottom) / 2


def _edge(side: int) -> Callable[[TextRun], float]:
    return (lambda run: run.x1) if side else (lambda run: run.x0)


def _aligned(numbers: Sequence[TextRun], side: int) -> Iterator[list[TextRun]]:
    """Groups of numbers with equal edges on this side."""
    edge = _edge(side)
    group: list[TextRun] = []
    for run in sorted(numbers, key=edge):
        if group and edge(run) - edge(group[0]) > ALIGNED_PT:
            yield group
            group = []
        group.append(run)
    yield group


def _is_line_numbering(column: Sequence[TextRun], rows: Sequence[float]) -> bool:
    if len(column) < MIN_NUMBERS:
        return False
    ordered = sorted(column, key=_centre)
    steps = [int(later.text) - int(earlier.text) for earlier, later in pairwise(ordered)]
    usual, count = Counter(steps).most_common(1)[0]
    if not 1 <= usual <= MAX_STEP or count < EQUAL_STEPS * len(steps):
        return False
    if sum(step > 0 for step in steps) < ASCENDING * len(steps):
        return False
    first, last = _centre(ordered[0]), _centre(ordered[-1])
    beside = sum(first - 1 <= row <= last + 1 for row in rows)
    return len(column) * usual >= DENSITY * beside


def _crosses(prose: Sequence[TextRun], column: Sequence[TextRun]) -> bool:
    """Does text run through the column, as it does above and below a table?"""
    x0 = min(run.x0 for run in column)
    x1 = max(run.x1 for run in column)
    crossing = sum(run.x0 < x0 - ALIGNED_PT and run.x1 > x1 + ALIGNED_PT for run in prose)
    return crossing > MAX_CROSSING * len(prose)


def _strip(page: Page, margins: Sequence[_Margin]) -> Page:
    numbers = _numbers(page)
    prose = _prose(page)
    dropped: set[int] = set()
    for margin in margins:
        column = [run for run in numbers if margin.holds(run)]
        if column and not _crosses(prose, column):
            dropped |= {id(run) for run in column}
    runs: list[TextRun] = []
    for run in page.runs:
        if any(id(part) in dropped for part in run.parts):
            runs += [part for part in run.parts if id(part) not in dropped]
        elif id(run) not in dropped:
            runs.append(run)
    return replace(page, runs=runs)
