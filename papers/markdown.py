"""Read a `Paper` from Markdown: `#` headings, underlined headings, bold lines."""

from __future__ import annotations

import re
from collections.abc import Sequence

from papers.outline import paper_from_blocks
from papers.paper import HIDDEN_TEXT, Flag, Paper, Section
from papers.plain_text import blocks, plain_heading, read_text, split_between, split_title
from papers.sections import is_named

#: A paper with fewer marked headings is assumed to have unmarked ones.
FEW_HEADINGS = 3
_HEADING = re.compile(r" {0,3}#{1,6}\s+(.+?)\s*#*\s*")
_BOLD = re.compile(r"(?:\*\*|__)([^*_]{3,80})(?:\*\*|__)")
_UNDERLINE = re.compile(r"(=|-){3,}\s*")
_IMAGE = re.compile(r"!\[([^\]\n]{0,500})\]\([^)\n]{0,500}\)")
_LINK = re.compile(r"\[([^\]\n]{1,500})\]\((?:https?:|#|mailto:|/|\.)[^)\n]{0,500}\)")
_COMMENT = re.compile(r"<!--"), re.compile(r"-->")
#: Characters; a longer line is not a heading.
HEADING_CHARS = 300


def is_markdown(text: str) -> bool:
    """Does the text have Markdown headings?"""
    return re.search(r"^#{1,6}[ \t]+\S", text, re.M) is not None


def read_markdown(text: str, flags: Sequence[Flag] = ()) -> Paper:
    """Read Markdown. Raises PaperUnreadable (empty)."""
    if text.lstrip().startswith("[TITLE]"):
        return read_text(text, flags)
    seen, comments = split_between(text, *_COMMENT)
    flags = (*flags, *(Flag.quoting(HIDDEN_TEXT, "comment", each.strip()) for each in comments))
    lines = _joined_underlines(_plain(seen).split("\n"))
    marked = sum(_heading(line, "") is not None for line in lines)
    found = blocks(lines, _heading if marked >= FEW_HEADINGS else _any_heading)
    title, found = _title(found)
    return paper_from_blocks(title, found, flags=flags)


def _plain(text: str) -> str:
    text = _IMAGE.sub(r"\1", text)
    return _LINK.sub(r"\1", text)


def _joined_underlines(lines: Sequence[str]) -> list[str]:
    """Convert headings that are underlined with === or --- to headings with #."""
    joined: list[str] = []
    for line in lines:
        if _UNDERLINE.fullmatch(line) and joined and 0 < len(joined[-1].strip()) < 120:
            joined[-1] = "# " + joined[-1].strip().lstrip("# ")
        else:
            joined.append(line)
    return joined


def _heading(line: str, before: str) -> str | None:
    if len(line) > HEADING_CHARS:
        return None
    mark = _HEADING.fullmatch(line)
    if mark:
        return mark[1].strip("* _")
    bold = _BOLD.fullmatch(line.strip())
    if bold and is_named(bold[1].strip()):
        return bold[1].strip()
    return None


def _any_heading(line: str, before: str) -> str | None:
    """Recognise plain headings too: PDF converters mark only the title."""
    return _heading(line, before) or plain_heading(line, before)


def _title(found: list[Section]) -> tuple[str, list[Section]]:
    """The first heading is the title, with headings that follow it without text between."""
    if found[0].text:
        title, rest = split_title(found[0].text)
        return title, [Section("", rest), *found[1:]]
    if len(found) == 1:
        return "", found
    first = found[1]
    if is_named(first.heading):
        return "", found[1:]
    return first.heading, [Section("", first.text), *found[2:]]
