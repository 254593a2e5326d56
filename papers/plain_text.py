"""Read a `Paper` from plain text: title on the first line, headings by number or name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from papers.encoding import with_newlines
from papers.outline import paper_from_blocks
from papers.paper import Flag, Paper, Section, parse_prompt_text
from papers.printed_text import without_binary, without_page_furniture, without_placeholders
from papers.sections import ABSTRACT, NUMBERED, is_named

#: Characters; a longer first line is not a title but the text itself.
TITLE_CHARS = 300
#: Characters; a longer line is not a heading.
HEADING_CHARS = 90
#: Before the first heading this begins an author's name, after it a section.
_INITIAL = re.compile(r"[A-Z]\. ")


def read_text(text: str, flags: Sequence[Flag] = ()) -> Paper:
    """Read plain text, or text in the recipe's prompt layout. Raises PaperUnreadable (empty)."""
    laid_out = parse_prompt_text(text)
    if laid_out is not None:
        return paper_from_blocks(
            laid_out.title,
            laid_out.sections,
            abstract=laid_out.abstract,
            captions=laid_out.captions,
            flags=flags,
        )
    text = without_page_furniture(without_placeholders(without_binary(with_newlines(text))))
    title, rest = split_title(text)
    return paper_from_blocks(title, blocks(rest.split("\n"), plain_heading), flags=flags)


def split_title(text: str) -> tuple[str, str]:
    """The first non-empty line and the rest; no title if that line is long or a heading."""
    first, _, rest = text.lstrip().partition("\n")
    is_heading = ABSTRACT.fullmatch(first.strip()) or is_named(first.strip())
    if len(first) > TITLE_CHARS or not rest.strip() or is_heading:
        return "", text
    return first.strip(), rest


def blocks(lines: Sequence[str], heading_of: Callable[[str, str], str | None]) -> list[Section]:
    """Lines grouped by heading; `heading_of(line, previous line)` returns a heading's text."""
    found: list[tuple[str, list[str]]] = [("", [])]
    before = ""
    for line in lines:
        heading = heading_of(line, before)
        if heading is not None and len(found) == 1 and _INITIAL.match(line):
            heading = None
        if heading is None:
            found[-1][1].append(line)
        else:
            found.append((heading, []))
        before = line
    return [Section(heading, "\n".join(body).strip()) for heading, body in found]


def plain_heading(line: str, before: str) -> str | None:
    """The line as a heading, if its number or name makes it one."""
    text = line.strip()
    if not text or len(text) > HEADING_CHARS or line.startswith(("  ", "\t")):
        return None
    if is_named(text) or ABSTRACT.fullmatch(text):
        return text
    numbered = NUMBERED.match(text) and re.match(r"[\d.A-Z]+\s+[A-Z]", text)
    if numbered and not before.strip() and text[-1] not in ".,;:":
        return text
    return None


def remove_between(text: str, opening: re.Pattern[str], closing: re.Pattern[str]) -> str:
    """Remove each span from an opening to the next closing; an opening that is not closed stays."""
    return split_between(text, opening, closing)[0]


def split_between(
    text: str, opening: re.Pattern[str], closing: re.Pattern[str]
) -> tuple[str, list[str]]:
    """The text without the spans from an opening to the next closing, and what was between them.

    A lazy regular expression takes quadratic time on openings without a closing.
    """
    parts: list[str] = []
    between: list[str] = []
    start = 0
    while (found := opening.search(text, start)) is not None:
        end = closing.search(text, found.end())
        if end is None:
            break
        parts.append(text[start : found.start()])
        between.append(text[found.end() : end.start()])
        start = end.end()
    return " ".join([*parts, text[start:]]), between
