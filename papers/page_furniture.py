"""Remove page furniture from PDF pages.

Page furniture is what belongs to the page and not to the paper: running heads and feet, page
numbers, line numbers of review copies, first-page notices.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median

from papers.line_numbers import without_line_numbers
from papers.pdf_page import Page
from papers.sections import CAPTION
from papers.text_runs import TextRun

#: Share of the page's height, at its top and at its bottom, where running heads and feet can be.
MARGIN = 0.12
#: Share of the first page's height below which a running head of later pages is a notice.
FOOT = 0.75
#: Rows from the top or the bottom that may be running heads or feet.
MARGIN_ROWS = 4
#: A line on this share of the pages is a running head; odd and even pages may differ.
REPEATED = 0.25
#: A running head with its page number is shorter than this many characters.
HEAD_CHARS = 120
#: A running head without number is smaller than this share of the usual font size.
HEAD_RATIO = 0.95
#: A run with this many characters is prose, not a label, a number or a formula.
PROSE_CHARS = 20

_PAGE_NUMBER = re.compile(r"\W*(?:page\s+)?(\d{1,5})(?:\s*(?:/|of)\s*\d{1,5})?\W*", re.I)
_DATE = re.compile(
    r"(\d{1,2}\.? )?(january|february|march|april|may|june|july|august|september|october|november"
    r"|december)\b[ \d,]{0,12}",
    re.I,
)
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
    pages = without_line_numbers(pages)
    rows = [_margin_rows(page) for page in pages]
    repeated = _repeated(rows)
    offset = _page_offset(pages, rows)
    heads: set[str] = set()
    dropped: set[int] = set()
    for page, page_rows in zip(pages, rows, strict=True):
        found = [row for row in page_rows if _key(row) in repeated]
        if offset is not None:
            number = page.number + offset
            found += [row for row in page_rows if _has_number(row, page_rows, number)]
        small = [row for row in page_rows[:1] if _is_small_head(row, page)]
        heads |= {run.text for row in small for run in row}
        dropped |= {id(run) for row in found + small for run in row}
        dropped |= {id(run) for run in _notices(page)}
    return [
        replace(page, runs=[run for run in page.runs if not _is_dropped(run, page, dropped, heads)])
        for page in pages
    ]


def _is_dropped(run: TextRun, page: Page, dropped: set[int], heads: set[str]) -> bool:
    # The first page prints the running head of the conference at its foot.
    low = page.number == 1 and run.top > FOOT * page.height
    return id(run) in dropped or (low and run.text in heads)


def is_notice(text: str) -> bool:
    """Does this start a notice of the publisher or organiser, not a note of the authors?"""
    return _NOTICE.match(text.lstrip("*∗†‡§¶ 0123456789")) is not None


def _margin_rows(page: Page) -> list[list[TextRun]]:
    """The outermost rows, from the edges inwards, at most `MARGIN_ROWS` at each end."""
    rows = _rows(page.runs)
    top = [row for row in rows[:MARGIN_ROWS] if row[0].bottom < MARGIN * page.height]
    bottom = [row for row in rows[-MARGIN_ROWS:] if row[0].top > (1 - MARGIN) * page.height]
    # Review styles have wide margins: their running heads are further inside.
    if rows and not top and _is_apart(rows[0], rows[1:2]) and _outer_numbers(rows[0]):
        top = rows[:1]
    if rows and not bottom and _page_number(rows[-1]) is not None:
        bottom = rows[-1:]
    return top + bottom


def _is_small_head(row: list[TextRun], page: Page) -> bool:
    """Is this a line in smaller print above the text of a later page?"""
    others = [run for run in page.runs if run.top > row[0].bottom]
    if page.number == 1 or not others or row[0].bottom > MARGIN * page.height:
        return False
    usual = median(run.size for run in others)
    text = _text(row)
    small = max(run.size for run in row) < HEAD_RATIO * usual and not any(run.bold for run in row)
    apart = min(run.top for run in others) - row[0].bottom > row[0].height
    return small and apart and len(text) < HEAD_CHARS and CAPTION.match(text) is None


def _is_apart(row: list[TextRun], next_rows: list[list[TextRun]]) -> bool:
    """Is there more than a line's height between the row and the next one?"""
    return all(
        other[0].top - row[0].bottom > row[0].height or row[0].top - other[0].bottom > row[0].height
        for other in next_rows
    )


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


def _outer_numbers(row: list[TextRun]) -> set[int]:
    """Numbers that may be the page's: alone in the row, or first or last of a running head."""
    alone = _page_number(row)
    ordered = sorted(row, key=lambda run: run.x0)
    parts = [ordered[0].text, ordered[-1].text] if len(ordered) > 1 else []
    parts += [part.text for run in (ordered[0], ordered[-1]) for part in run.parts]
    found = {int(part) for part in parts if part.isascii() and part.isdigit() and len(part) <= 5}
    return found | ({alone} if alone is not None else set())


def _has_number(row: list[TextRun], rows: list[list[TextRun]], number: int) -> bool:
    """Is this the page number, or a running head or foot that contains it?"""
    if _page_number(row) == number:
        return True
    heading = all(run.bold for run in row)  # "5 Discussion" at the top of page 5
    short = len(_text(row)) < HEAD_CHARS
    outermost = row is rows[0] or row is rows[-1]
    return outermost and short and not heading and number in _outer_numbers(row)


def _page_offset(pages: Sequence[Page], rows: Sequence[list[list[TextRun]]]) -> int | None:
    """The printed page number minus the page's index, as on most pages."""
    offsets = Counter(
        number - page.number
        for page, page_rows in zip(pages, rows, strict=True)
        for number in {number for row in page_rows for number in _outer_numbers(row)}
        if number is not None
    )
    offset, count = offsets.most_common(1)[0] if offsets else (0, 0)
    # One number alone may be anything, but the first page is usually page 1.
    return offset if count > 1 or offset == 0 else None


def _notices(page: Page) -> list[TextRun]:
    """Notices at the foot of the first page, each with the lines below it."""
    if page.number != 1:
        return []
    foot = [run for run in page.runs if run.top > (1 - MARGIN) * page.height]
    starts = [run for run in foot if is_notice(run.text)]
    return [
        run
        for run in foot
        if any(
            (run.top >= start.top and run.x0 < start.x1 and run.x1 > start.x0)
            or (abs(run.top - start.top) < 2 and _DATE.fullmatch(run.text))
            for start in starts
        )
    ]
