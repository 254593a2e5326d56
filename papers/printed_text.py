"""Remove from text what the printing and conversion of pages left in it.

Running heads, page numbers, numbers of lines; pictures as base64; the marks that converters leave
for what they could not convert. A section's number on a line of its own joins its heading.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from papers.sections import is_named

#: Characters; a longer line is not a running head.
HEAD_CHARS = 120
#: Times that a line is repeated at the edge of pages to be a running head.
HEAD_REPEATS = 2
#: Digits of the highest number of a page or line.
NUMBER_DIGITS = 4
#: Characters; a longer line after a number is not a heading.
HEADING_CHARS = 80
#: Consecutive numbers on lines of their own that are numbers of lines.
LINE_NUMBERS = 3

_BASE64 = re.compile(
    r"data:[a-zA-Z]{1,20}/[\w.+-]{1,60}(?:;[\w=-]{1,40})*;base64,[A-Za-z0-9+/=_%-]*"
)
_PLACEHOLDER = re.compile(
    r"(?:[*_]{0,2}==>\s*picture[^\n]{0,80}<==[*_]{0,2}|\[(?:MISSING_PAGE[\w:]{0,40})\]"
    r"|[*_]{0,2}-{3,}\s*(?:start|end) of picture text\s*-{3,}[*_]{0,2}|\{\d{1,4}\}-{20,}"
    r"|-{2,} ?page \d{1,4} ?-{2,}|\[(?:image|picture|figure|table|formula)\](?:\s*\(\s*\))?)",
    re.I,
)
_KNOWN_HEAD = re.compile(
    r"(?:(?:under|submitted for) (?:double[- ]blind )?review\b[^\n]{0,90}"
    r"|published as [^\n]{0,60}(?:paper|article)[^\n]{0,60}|preprint\.?(?: under review\.?)?"
    r"|(?:manuscript|article) (?:under review|submitted to)[^\n]{0,90}|confidential review copy[^\n]{0,60}"  # noqa: E501
    r"|(?:anonymous )?(?:acl|emnlp|naacl|eccv|cvpr|iccv|icml|neurips|aaai)[^\n]{0,30} submission[^\n]{0,60}"  # noqa: E501
    r"|(?:accepted|submitted) (?:at|to|for)[^\n]{0,90}|arxiv:\d{4}\.\d{4,5}[^\n]{0,60}"
    r"|page \d{1,4}(?: of \d{1,4})?)",
    re.I,
)
_NUMBER = re.compile(rf"\d{{1,{NUMBER_DIGITS}}}")
_SECTION_NUMBER = re.compile(
    r"(?:\d{1,2}(?:\.\d{1,2}){0,3}\.?|[A-H](?:\.\d{1,2}){0,3}\.?|[IVX]{1,4}\.)"
)
_DIGITS = re.compile(r"\d+")


def without_binary(text: str) -> str:
    """The text without pictures that are written out as base64."""
    return _BASE64.sub("", text) if ";base64," in text else text


def without_placeholders(text: str) -> str:
    """The text without the marks that converters leave for pictures, pages and formulas."""
    lines = text.split("\n")
    return "\n".join(line for line in lines if not _PLACEHOLDER.fullmatch(line.strip()))


def without_page_furniture(text: str) -> str:
    """The text without running heads and numbers of pages and lines."""
    lines = [line.rstrip() for line in text.replace("\f", "\n\f\n").split("\n")]
    heads = _running_heads(lines)
    lines = ["" if _is_head(line, heads) else line for line in lines]
    lines = _joined_numbers(lines)
    numbers = _line_numbers(lines)
    kept = [line for index, line in enumerate(lines) if index not in numbers]
    return "\n".join(line for line in kept if line != "\f")


def _running_heads(lines: Sequence[str]) -> frozenset[str]:
    """Lines that are repeated beside page breaks or page numbers, apart from digits."""
    counts: Counter[str] = Counter()
    for index, line in enumerate(lines):
        text = line.strip()
        if len(text) >= 8 and len(text) <= HEAD_CHARS and _is_at_edge(lines, index):
            counts[_DIGITS.sub("#", text)] += 1
    return frozenset(text for text, count in counts.items() if count >= HEAD_REPEATS)


def _is_at_edge(lines: Sequence[str], index: int) -> bool:
    return any(
        beside == "\f" or _NUMBER.fullmatch(beside)
        for beside in (_neighbour(lines, index, -1), _neighbour(lines, index, 1))
    )


def _neighbour(lines: Sequence[str], index: int, step: int) -> str:
    """The next line that is not blank, at most three lines away."""
    for distance in range(1, 4):
        at = index + step * distance
        if not 0 <= at < len(lines):
            return "\f"
        if lines[at].strip() or lines[at] == "\f":
            return lines[at].strip(" ") or "\f"
    return ""


def _is_head(line: str, heads: frozenset[str]) -> bool:
    text = line.strip()
    if not text or len(text) > HEAD_CHARS:
        return False
    return _DIGITS.sub("#", text) in heads or _KNOWN_HEAD.fullmatch(text) is not None


def _joined_numbers(lines: Sequence[str]) -> list[str]:
    """Section numbers on lines of their own are put before their headings."""
    joined: list[str] = []
    skipped = -1
    for index, line in enumerate(lines):
        if index <= skipped:
            continue
        heading = _heading_below(lines, index) if _SECTION_NUMBER.fullmatch(line.strip()) else None
        if heading is None:
            joined.append(line)
        else:
            skipped = heading
            joined += ["", f"{line.strip()} {lines[heading].strip()}", ""]
    return joined


def _heading_below(lines: Sequence[str], index: int) -> int | None:
    """The heading that a number stands before: alone between blank lines, not a sentence."""
    at = next((i for i in (index + 1, index + 2) if i < len(lines) and lines[i].strip()), None)
    if at is None or (index > 0 and lines[index - 1].strip()):
        return None
    text = lines[at].strip()
    alone = at + 1 >= len(lines) or not lines[at + 1].strip()
    if len(text) > HEADING_CHARS or not text[0].isupper() or text[-1] in ".,;:?!":
        return None
    return at if is_named(text) or (alone and len(text.split()) <= 10) else None


def _line_numbers(lines: Sequence[str]) -> frozenset[int]:
    """Lines that are the number of a page or of lines: alone, or counting up."""
    found: set[int] = set()
    run: list[int] = []
    for index, line in enumerate(lines):
        text = line.strip()
        if not text:
            continue
        if not _NUMBER.fullmatch(text):
            continue
        counts_up = bool(run) and int(text) == int(lines[run[-1]].strip()) + 1
        run = [*run[-LINE_NUMBERS:], index] if counts_up else [index]
        if len(run) >= LINE_NUMBERS:
            found.update(run)
        if _is_alone(lines, index):
            found.add(index)
    return frozenset(found)


def _is_alone(lines: Sequence[str], index: int) -> bool:
    def blank(at: int) -> bool:
        return not 0 <= at < len(lines) or not lines[at].strip() or lines[at] == "\f"

    return blank(index - 1) and blank(index + 1)
