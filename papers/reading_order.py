"""Sort the runs of a page into lines in reading order, column by column."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from papers.page_furniture import PROSE_CHARS
from papers.pdf_page import Page
from papers.sections import ABSTRACT, ARTICLE_INFO
from papers.text_runs import TextRun

#: Share of the page's width that is searched for the gap between two columns.
GUTTER_RANGE = (0.22, 0.78)
#: Minimum width of a gutter in points.
GUTTER_PT = 7
#: Minimum lines of prose on each side of a gutter.
MIN_COLUMN_LINES = 4
#: Minimum runs of an abstract and of the article information beside it.
MIN_BESIDE = 3
#: Share of the prose that may cross the gutter (title, wide captions) on a two-column page.
MAX_CROSSING = 0.35


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text in one column. `column_x0` and `column_x1` are the column's edges.

    `column` is 0 for the whole width, 1 for left and 2 for right; positions are those of `TextRun`.
    """

    page: int
    column: int
    column_x0: float
    column_x1: float
    x0: float
    top: float
    x1: float
    bottom: float
    size: float
    bold: bool
    text: str
    #: Separate runs in the line: more than one in tables and formulas.
    runs: int

    @property
    def wide(self) -> bool:
        """Does the line fill most of its column, as prose does?"""
        return self.x1 - self.x0 > 0.7 * (self.column_x1 - self.column_x0)


def reading_order(pages: Sequence[Page]) -> list[list[Line]]:
    """The lines of each page in reading order."""
    gutters = _gutters(pages)
    return [_page_lines(page, gutter) for page, gutter in zip(pages, gutters, strict=True)]


def _gutters(pages: Sequence[Page]) -> list[float | None]:
    own = [_gutter(page) for page in pages]
    found = [gutter for gutter in own if gutter is not None]
    if len(found) * 2 < sum(bool(page.runs) for page in pages):
        return own
    # A page with little prose (tables, the last one) has the columns of its neighbours.
    usual = median(found)
    return [
        usual if gutter is None and _crossing(page.runs, usual) <= MAX_CROSSING else gutter
        for page, gutter in zip(pages, own, strict=True)
    ]


def _gutter(page: Page) -> float | None:
    prose = [run for run in page.runs if len(run.text) >= PROSE_CHARS]
    first, last = (int(share * page.width) for share in GUTTER_RANGE)
    places: list[tuple[int, float, int]] = []
    ends, starts = sorted(run.x1 for run in prose), sorted(run.x0 for run in prose)
    for x in range(first, last):
        left = bisect_right(ends, x - GUTTER_PT / 2)
        right = len(prose) - bisect_left(starts, x + GUTTER_PT / 2)
        crossing = len(prose) - left - right
        if min(left, right) >= MIN_COLUMN_LINES and crossing <= MAX_CROSSING * len(prose):
            places.append((crossing, abs(x - page.width / 2), x))
    return min(places)[-1] if places else None


def _crossing(runs: Sequence[TextRun], x: float) -> float:
    prose = [run for run in runs if len(run.text) >= PROSE_CHARS]
    return sum(_spans(run, x) for run in prose) / max(1, len(prose))


def _spans(run: TextRun, x: float) -> bool:
    return run.x0 < x - GUTTER_PT / 2 and run.x1 > x + GUTTER_PT / 2


def _page_lines(page: Page, gutter: float | None) -> list[Line]:
    if not page.runs:
        return []
    front, rest = _front_matter(page)
    lines = _lines(page.number, 0, front)
    info, abstract, rest = _beside_abstract(page, rest)
    lines += _lines(page.number, 1, info) + _lines(page.number, 2, abstract)
    if gutter is None:
        return lines + _lines(page.number, 0, rest)
    for spanning, band in _bands(rest, gutter):
        if spanning:
            lines += _lines(page.number, 0, band, within=rest)
            continue
        left = [run for run in band if (run.x0 + run.x1) / 2 < gutter]
        right = [run for run in band if (run.x0 + run.x1) / 2 >= gutter]
        for column, runs in ((1, left), (2, right)):
            side = [
                run
                for run in rest
                if not _spans(run, gutter) and (run.x0 < gutter) == (column == 1)
            ]
            lines += _lines(page.number, column, runs, within=side)
    return lines


def _front_matter(page: Page) -> tuple[list[TextRun], list[TextRun]]:
    """The first page's runs above the abstract's heading, and the rest."""
    if page.number != 1:
        return [], page.runs
    headings = [run for run in page.runs if ABSTRACT.match(run.text) and len(run.text) < 200]
    if not headings:
        return [], page.runs
    top = min(run.top - 0.5 * run.height for run in headings)
    front = [run for run in page.runs if run.bottom < top]
    return front, [run for run in page.runs if run.bottom >= top]


def _beside_abstract(
    page: Page, runs: list[TextRun]
) -> tuple[list[TextRun], list[TextRun], list[TextRun]]:
    """Article information, the abstract beside it, and the rest; all is rest without the two."""
    heading = next((run for run in runs if ABSTRACT.fullmatch(run.text)), None)
    if page.number > 2 or heading is None:
        return [], [], runs
    beside = [run for run in runs if abs(run.top - heading.top) < heading.height]
    info = next((run for run in beside if ARTICLE_INFO.match(run.text)), None)
    right = info is not None and info.x0 > heading.x0
    split = (info if info is not None and right else heading).x0 - 3
    spanning = [run.top for run in runs if run.x0 < split < run.x1 - 3]
    block = [run for run in runs if run.bottom <= min(spanning, default=page.height)]
    sides = [run for run in block if run.x1 <= split + 3], [run for run in block if run.x0 > split]
    infos, abstract = sides[::-1] if right else sides
    infos = _infos_beside(infos, abstract)
    if min(len(infos), len(abstract)) < MIN_BESIDE:
        return [], [], runs
    taken = {id(run) for run in [*infos, *abstract]}
    return infos, abstract, [run for run in runs if id(run) not in taken]


def _infos_beside(infos: list[TextRun], abstract: list[TextRun]) -> list[TextRun]:
    """The information beside the abstract, and what continues it below the abstract's end."""
    end = max((run.bottom for run in abstract), default=0.0)
    kept: list[TextRun] = []
    for run in sorted(infos, key=lambda run: run.top):
        goes_on = kept and run.top - kept[-1].bottom < run.height and run.size <= kept[-1].size
        if run.top >= end and not goes_on:
            break
        kept.append(run)
    return kept


def _bands(runs: Sequence[TextRun], gutter: float) -> list[tuple[bool, list[TextRun]]]:
    """Divide the page at each run that spans both columns: it is read after all above it."""
    bands: list[tuple[bool, list[TextRun]]] = []
    last: TextRun | None = None
    for run in sorted(runs, key=lambda run: ((run.top + run.bottom) / 2, run.x0)):
        spanning = _spans(run, gutter) or (last is not None and _ends_block(last, run))
        if spanning:
            last = run
        if bands and bands[-1][0] is spanning:
            bands[-1][1].append(run)
        else:
            bands.append((spanning, [run]))
    return bands


def _ends_block(last: TextRun, run: TextRun) -> bool:
    """Is this the short last line of a caption or a title that spans both columns?"""
    gap = run.top - last.bottom
    return abs(run.x0 - last.x0) < 2 and abs(run.size - last.size) < 0.2 and gap < 0.5 * run.size


def _lines(
    page: int, column: int, runs: Sequence[TextRun], within: Sequence[TextRun] = ()
) -> list[Line]:
    if not runs:
        return []
    around = within or runs
    edges = (min(run.x0 for run in around), max(run.x1 for run in around))
    return [_line(page, column, edges, row) for row in _rows(runs)]


def _rows(runs: Sequence[TextRun]) -> list[list[TextRun]]:
    """Group runs that share a line; indices and exponents belong to the line that they touch."""
    rows: list[list[TextRun]] = []
    for run in sorted(runs, key=lambda run: ((run.top + run.bottom) / 2, run.x0)):
        if rows and _same_row(rows[-1], run):
            rows[-1].append(run)
        else:
            rows.append([run])
    return [sorted(row, key=lambda run: run.x0) for row in rows]


def _same_row(row: list[TextRun], run: TextRun) -> bool:
    tallest = max(row, key=lambda other: other.height)
    overlap = min(tallest.bottom, run.bottom) - max(tallest.top, run.top)
    return overlap > 0.5 * min(tallest.height, run.height)


def _line(page: int, column: int, edges: tuple[float, float], row: list[TextRun]) -> Line:
    main = max(row, key=lambda run: len(run.text) * run.size)
    return Line(
        page,
        column,
        *edges,
        x0=row[0].x0,
        top=main.top,
        x1=max(run.x1 for run in row),
        bottom=main.bottom,
        size=main.size,
        bold=sum(len(run.text) for run in row if run.bold)
        > 0.6 * sum(len(run.text) for run in row),
        text=" ".join(run.text for run in row),
        runs=len(row),
    )
