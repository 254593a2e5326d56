"""Remove page furniture from PDF pages.

Page furniture is what belongs to the page and not to the paper: running heads and feet, page
numbers, line numbers of review copies, first-page notices.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from papers.pdf_page import Page
from papers.text_runs import TextRun

#: Share of the page's height, at its top and at its bottom, where running heads and feet can be.
MARGIN = 0.12
#: Rows from the top or the bottom that may be running heads or feet.
MARGIN_ROWS = 4
#: A line on this share of the pages is a running head; odd and even pages may differ.
REPEATED = 0.25
#: Fewer numbers beside the text are not line numbers.
MIN_LINE_NUMBERS = 8
#: A run with this many characters is prose, not a label, a number or a formula.
PROSE_CHARS = 20

_PAGE_NUMBER = re.compile(r"\W*(?:page\s+)?(\d{1,5})(?:\s*(?:/|of)\s*\d{1,5})?\W*", re.I)
_LINE_NUMBER = re.compile(r"\d{1,4}")
_NOTICE = re.compile(
    r"(Proceedings of |Appearing in |Permission to make |Copyright |©|\(c\) ?\d{4}|arXiv:\d"
    r"|Preprint\b|DOI:|https://doi"
    r"|Under review |Published as |Submitted to |Accepted (to|at|by) |To appear in |Draft\b"
    r"|\d+(st|nd|rd|th) Conference on |Correspondence to|Do not distribute"
    r"|Work (done|performed) |Part of (the|this) work|This (work|research) (was|is) )",
    re.I,
)


def without_furniture(pages: Sequence[Page]) -> list[Page]:
    """The same pages, each without its furniture."""
    rows = [_margin_rows(page) for page in pages]
    repeated = _repeated(rows)
    offset = _page_offset(pages, rows)
    stripped: list[Page] = []
    for page, page_rows in zip(pages, rows, strict=True):
        heads = [row for row in page_rows if _key(row) in repeated]
        numbers = [row for row in page_rows if _page_number(row) == page.number + offset]
        dropped = {id(run) for row in heads + numbers for run in row}
        dropped |= {id(run) for run in [*_line_numbers(page), *_notices(page)]}
        stripped.append(replace(page, runs=[run for run in page.runs if id(run) not in dropped]))
    return stripped


def is_notice(text: str) -> bool:
    """Does this start a notice of the publisher or organiser, not a note of the authors?"""
    return _NOTICE.match(text.lstrip("*∗†‡§¶ 0123456789")) is not None


def _margin_rows(page: Page) -> list[list[TextRun]]:
    """The outermost rows, from the edges inwards, at most `MARGIN_ROWS` at each end."""
    rows = _rows(page.runs)
    top = [row for row in rows[:MARGIN_ROWS] if row[0].bottom < MARGIN * page.height]
    bottom = [row for row in rows[-MARGIN_ROWS:] if row[0].top > (1 - MARGIN) * page.height]
    return top + bottom


def _rows(runs: Iterable[TextRun]) -> list[list[TextRun]]:
    rows: list[list[TextRun]] = []
    for run in sorted(runs, key=lambda run: (run.top + run.bottom, run.x0)):
        centre = (run.top + run.bottom) / 2
        if rows and rows[-1][0].top < centre < rows[-1][0].bottom:
            rows[-1].append(run)
        else:
            rows.append([run])
    return rows


def _text(row: list[TextRun]) -> str:
    return " ".join(run.text for run in sorted(row, key=lambda run: run.x0))


def _key(row: list[TextRun]) -> tuple[str, int]:
    """The row's text without numbers, and its position to within a few points."""
    text = re.sub(r"\d+", "#", _text(row)).strip(" #|·-–").lower()
    return text, round(row[0].top / 6)


def _repeated(rows: Sequence[list[list[TextRun]]]) -> set[tuple[str, int]]:
    counts = Counter(key for page_rows in rows for key in {_key(row) for row in page_rows})
    least = max(2, REPEATED * len(rows))
    return {key for key, count in counts.items() if count >= least and len(key[0]) > 2}


def _page_number(row: list[TextRun]) -> int | None:
    found = _PAGE_NUMBER.fullmatch(_text(row))
    return int(found[1]) if found else None


def _page_offset(pages: Sequence[Page], rows: Sequence[list[list[TextRun]]]) -> int:
    """The printed page number minus the page's index, as on most pages."""
    offsets = Counter(
        number - page.number
        for page, page_rows in zip(pages, rows, strict=True)
        for number in map(_page_number, page_rows)
        if number is not None
    )
    return offsets.most_common(1)[0][0] if offsets else 0


def _notices(page: Page) -> list[TextRun]:
    """Notices at the foot of the first page, each with the lines below it."""
    if page.number != 1:
        return []
    foot = [run for run in page.runs if run.top > (1 - MARGIN) * page.height]
    starts = [run for run in foot if is_notice(run.text)]
    return [
        run
        for run in foot
        if any(run.top >= start.top and run.x0 < start.x1 and run.x1 > start.x0 for start in starts)
    ]


def _line_numbers(page: Page) -> list[TextRun]:
    prose = [run for run in page.runs if len(run.text) >= PROSE_CHARS]
    if not prose:
        return []
    left = sorted(run.x0 for run in prose)[len(prose) // 10]
    right = sorted(run.x1 for run in prose)[len(prose) * 9 // 10]
    found: list[TextRun] = []
    for side in (
        [run for run in page.runs if run.x1 < left],
        [run for run in page.runs if run.x0 > right],
    ):
        numbers = [run for run in side if _LINE_NUMBER.fullmatch(run.text)]
        if len(numbers) >= MIN_LINE_NUMBERS and _ascending(numbers):
            found += numbers
    return found


def _ascending(runs: list[TextRun]) -> bool:
    values = [int(run.text) for run in sorted(runs, key=lambda run: run.top)]
    steps = [later > earlier for earlier, later in pairwise(values)]
    return sum(steps) >= 0.9 * len(steps)
