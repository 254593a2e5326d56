"""Classify lines of a printed paper: title, heading, caption, note, part of a float, or body.

By size, weight, position and wording of lines in reading order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum

from papers.page_furniture import is_notice
from papers.pdf_page import Page, Rule
from papers.reading_order import Line
from papers.sections import ABSTRACT, CAPTION, NUMBERED, SUBSECTION, is_named

#: A heading is shorter than this many characters.
HEADING_CHARS = 100
#: Maximum number of lines of a title.
TITLE_LINES = 6
#: In units of the body's size.
LARGER_RATIO, SMALLER_RATIO = 1.08, 0.95
#: A bold heading may be a little smaller than the body, which review styles print larger.
BOLD_RATIO = 0.88
#: Points; sizes with a smaller difference count as equal.
SIZE_SLACK = 0.6


#: Words; a journal's name that nothing else tells from a title is not longer.
MASTHEAD_WORDS = 3
#: The beginning of a journal's, a series' or a publisher's name.
MASTHEAD = re.compile(
    r"(?:the )?(?:(?:(?:\w+ ){0,4}(?:journal|transactions|proceedings|annals|bulletin|archives"
    r"|letters|reports|magazine|communications))\b(?: (?:of|on|in|for|de|der)\b.*| *$)"
    r"|frontiers in |advances in \w+ *$|international journal |ieee access|plos |acm "
    r"|contents lists available|sciencedirect|technical report\b|research paper *$"
    r"|original (?:article|research)|open access)",
    re.I,
)


class Role(Enum):
    """The role of a line."""

    TITLE = "title"
    HEADING = "heading"
    CAPTION = "caption"
    TABLE = "table"
    FIGURE = "figure"
    NOTE = "note"
    BODY = "body"


NOTE_MARK = re.compile(r"(\d{1,2}|[*∗†‡§¶♠♣♦])\s?\S")


def roles(pages: Sequence[Page], lines: Sequence[Sequence[Line]]) -> list[tuple[Line, Role]]:
    """Every line of the paper with its role, in reading order."""
    body = body_size(lines)
    named: list[tuple[Line, Role]] = []
    for page, page_lines in zip(pages, lines, strict=True):
        found = [Role.BODY] * len(page_lines)
        if page.number == 1:
            _mark_title(page_lines, found, body)
        _mark_notes(page.rules, page_lines, found, body)
        _mark_captions(page_lines, found)
        _mark_headings(page_lines, found, body)
        _mark_floats(page_lines, found, body)
        named += zip(page_lines, found, strict=True)
    return named


def body_size(lines: Sequence[Sequence[Line]]) -> float:
    """The font size in which most of the paper is set, in points."""
    counts: Counter[float] = Counter()
    for page_lines in lines:
        for line in page_lines:
            counts[line.size] += len(line.text)
    return max(counts, key=lambda size: counts[size], default=10.0)


def _mark_title(lines: Sequence[Line], found: list[Role], body: float) -> None:
    upper = [line for line in lines if sum(map(str.isalpha, line.text)) >= 4]
    lowest = max((line.bottom for line in lines), default=0.0)
    upper = [line for line in upper if line.top < 0.6 * lowest]
    while upper:
        size = max(line.size for line in upper)
        start = next(i for i, line in enumerate(lines) if line in upper and line.size == size)
        end = _title_end(lines, start, body)
        below = [line for line in upper if line.top > lines[end - 1].bottom]
        if not _is_masthead(lines, start, end, _largest_block(below), body):
            found[start:end] = [Role.TITLE] * (end - start)
            return
        upper = below


def _title_end(lines: Sequence[Line], start: int, body: float) -> int:
    size = lines[start].size
    # If all text has one size, only the first line can be identified as the title.
    most = TITLE_LINES if size > body + SIZE_SLACK else 1
    for index in range(start + 1, min(start + most, len(lines))):
        line = lines[index]
        far = line.top - lines[index - 1].bottom > 1.2 * size
        if abs(line.size - size) > SIZE_SLACK or far or ABSTRACT.fullmatch(line.text):
            return index
    return min(start + most, len(lines))


def _largest_block(lines: Sequence[Line]) -> list[Line]:
    size = max((line.size for line in lines), default=0.0)
    return [line for line in lines if line.size == size][:TITLE_LINES]


def _is_masthead(
    lines: Sequence[Line], start: int, end: int, below: Sequence[Line], body: float
) -> bool:
    """Is this the name of the journal, larger than the title below it?"""
    if start > 2 or not below or below[0].size <= body + SIZE_SLACK:
        return False
    if not is_title_like(" ".join(line.text for line in below)):
        return False
    name = " ".join(line.text for line in lines[start:end])
    if MASTHEAD.match(name):
        return True
    cited = re.compile(rf"{re.escape(name)},?\s*(?:vol|no|issue|\(?(?:19|20)\d\d|\d+\W)", re.I)
    others = (*lines[:start], *lines[end:])
    if any(cited.search(line.text) for line in others):
        return True
    apart = below[0].top - lines[end - 1].bottom > 1.5 * below[0].size
    return start == 0 and len(name.split()) <= MASTHEAD_WORDS and apart


def is_title_like(text: str) -> bool:
    """Can this be a title and not a list of authors?"""
    parts = [part.split() for part in re.split(r",|;|&|·|\band\b", text) if part.strip()]
    names = len(parts) > 1 and all(
        len(words) <= 4 and all(word[0].isupper() for word in words) for words in parts
    )
    initials = re.search(r"@|\b[A-Z]\. ", text)
    return len(text.split()) >= 4 and not names and initials is None


def _mark_notes(
    rules: Sequence[Rule], lines: Sequence[Line], found: list[Role], body: float
) -> None:
    for start, end in _columns(lines):
        first = _note_start(rules, lines[start:end], body)
        if first is not None:
            found[start + first : end] = [Role.NOTE] * (end - start - first)


def _columns(lines: Sequence[Line]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive lines in one column."""
    start = 0
    for index in range(1, len(lines) + 1):
        if index == len(lines) or lines[index].column != lines[start].column:
            yield start, index
            start = index


def _note_start(rules: Sequence[Rule], lines: Sequence[Line], body: float) -> int | None:
    """Where the column's notes begin: under a short rule, or with a mark in small print."""
    for index, line in enumerate(lines):
        rest = lines[index:]
        if index == 0 or any(later.size > body + 0.2 or later.runs > 3 for later in rest):
            continue
        small = all(later.size < SMALLER_RATIO * body for later in rest)
        low = line.top > lines[0].top + (0.3 if small else 0.6) * (lines[-1].bottom - lines[0].top)
        ruled = any(_above_note(rule, lines[index - 1], line) for rule in rules)
        marked = NOTE_MARK.match(line.text) or is_notice(line.text)
        if low and (ruled or (small and marked)):
            return index
    return None


def _above_note(rule: Rule, before: Line, line: Line) -> bool:
    width = line.column_x1 - line.column_x0
    short = 0.15 * width < rule.x1 - rule.x0 < 0.6 * width
    between = before.bottom - 3 < rule.y < line.top + 3 and line.top - rule.y < 1.5 * line.size
    if line.top - before.bottom < 0.35 * line.size:
        return False  # an underlined word
    return short and between and abs(rule.x0 - line.column_x0) < 8


def _mark_captions(lines: Sequence[Line], found: list[Role]) -> None:
    for index, line in enumerate(lines):
        if found[index] is not Role.BODY or not CAPTION.match(line.text):
            continue
        if index and _continues_prose(lines[index - 1], line):
            continue
        found[index] = Role.CAPTION
        leading = line.size
        for later in range(index + 1, len(lines)):
            before, line = lines[later - 1], lines[later]
            gap = line.top - before.bottom
            if gap > leading + 0.2 * line.size or not _caption_goes_on(before, line):
                break
            found[later], leading = Role.CAPTION, gap


def _caption_goes_on(before: Line, line: Line) -> bool:
    ended = before.text.endswith(".") and not before.wide
    is_row = line.runs >= 3 or CAPTION.match(line.text) is not None
    return same_block(before, line) and not ended and not is_row


def _continues_prose(before: Line, line: Line) -> bool:
    """Is "Table 2." only by chance at the start of a line of body text?"""
    return same_block(before, line) and before.wide and not before.text.endswith((".", ":"))


def same_block(before: Line, line: Line) -> bool:
    """Are the two lines close together and of one size?"""
    gap = line.top - before.bottom
    return (
        before.column == line.column
        and abs(before.size - line.size) < SIZE_SLACK
        and -before.size < gap < 0.75 * before.size
    )


def _mark_headings(lines: Sequence[Line], found: list[Role], body: float) -> None:
    for index, line in enumerate(lines):
        if found[index] is not Role.BODY:
            continue
        before = lines[index - 1] if index else None
        after = lines[index + 1] if index + 1 < len(lines) else None
        goes_on = index > 0 and found[index - 1] is Role.HEADING and same_heading(before, line)
        if goes_on or is_heading(line, before, after, body):
            found[index] = Role.HEADING


def same_heading(before: Line | None, line: Line) -> bool:
    """Is this the next line of a heading of several lines?"""
    return (
        before is not None
        and same_block(before, line)
        and before.bold == line.bold
        and abs(before.size - line.size) < 0.2
        and len(line.text) < HEADING_CHARS
        and not NUMBERED.match(line.text)
        and not is_named(before.text)
        and (line.bold or line.text.isupper())
    )


def is_heading(line: Line, before: Line | None, after: Line | None, body: float) -> bool:
    """Is this line set and worded as a section heading?"""
    text = line.text
    letters = [char for char in text if char.isalpha()]
    capitals = all(char.isupper() for char in letters)
    if len(text) > HEADING_CHARS or len(letters) < 4 or not _mostly_words(text):
        return False
    alone = not line.wide and not (after and after.bold and same_block(line, after))
    smallest = (
        BOLD_RATIO if line.bold and alone and _is_apart(before, line, body) else SMALLER_RATIO
    )
    if line.size < smallest * body and not capitals:
        return False
    if ABSTRACT.fullmatch(text):
        return True
    stands_out = line.bold or capitals or line.size >= LARGER_RATIO * body
    if is_named(text) and not line.wide:
        return stands_out or _is_apart(before, line, body)
    if text.endswith((".", ",", ";")) or "=" in text:
        return False
    # Elsevier and IEEE set the headings of subsections in italics, which a run does not record.
    if SUBSECTION.match(text) and not line.wide and line.runs == 1:
        stands_out |= _is_apart(before, line, body) and _is_apart_below(line, after, body)
    if not stands_out:
        return False
    if NUMBERED.match(text):
        return line.runs <= 3
    runs_in = after is not None and same_block(line, after) and not after.bold
    return line.runs == 1 and _is_apart(before, line, body) and not runs_in and text[-1] != "-"


def _mostly_words(text: str) -> bool:
    words = re.findall(r"[^\W\d_]{3,}", text)
    return max(map(len, words), default=0) > 3 and sum(map(len, words)) > 0.5 * len(
        text.replace(" ", "")
    )


def _is_apart(before: Line | None, line: Line, body: float) -> bool:
    """Is there more than the usual line spacing above?"""
    return before is None or before.column != line.column or line.top - before.bottom > 0.45 * body


def _is_apart_below(line: Line, after: Line | None, body: float) -> bool:
    return (
        after is not None and after.column == line.column and after.top - line.bottom > 0.2 * body
    )


def _mark_floats(lines: Sequence[Line], found: list[Role], body: float) -> None:
    """Mark cells of tables and labels of figures: text beside a caption that is not prose."""
    for index, line in enumerate(lines):
        caption = CAPTION.match(line.text) if found[index] is Role.CAPTION else None
        if caption is None or caption[1].lower().startswith(("alg", "list")):
            continue
        is_table = caption[1].lower().startswith("tab")
        role = Role.TABLE if is_table else Role.FIGURE
        _spread(lines, found, range(index - 1, -1, -1), role, body)
        if is_table:
            end = index
            while end < len(found) and found[end] is Role.CAPTION:
                end += 1
            _spread(lines, found, range(end, len(lines)), role, body)


def _spread(
    lines: Sequence[Line], found: list[Role], indexes: range, role: Role, body: float
) -> None:
    column = lines[indexes.start - indexes.step].column
    for index in indexes:
        line = lines[index]
        if found[index] not in (Role.BODY, Role.HEADING) or (column and line.column != column):
            return
        if found[index] is Role.HEADING and (
            role is Role.TABLE or line.size >= LARGER_RATIO * body
        ):
            return
        before = lines[index - 1] if index else None
        if _is_prose(line, body) or (before and _ends_paragraph(before, line, body)):
            return
        found[index] = role


def _is_prose(line: Line, body: float) -> bool:
    if not line.wide or line.size < SMALLER_RATIO * body or len(line.text) <= 25:
        return False
    filled = (line.x1 - line.x0) / (line.column_x1 - line.column_x0)
    return line.runs == 1 or (line.runs == 2 and filled > 0.9)


def _ends_paragraph(before: Line, line: Line, body: float) -> bool:
    return same_block(before, line) and _is_prose(before, body) and line.runs == 1
