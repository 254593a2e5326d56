"""Flag a text that is no paper: a letter, a form, an abstract alone, labels without sentences.

docs/papers.md states the rule. Nothing is refused here: a short or unusual paper is still a paper.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from papers.paper import Flag, Section
from papers.sections import is_named

#: Kind of the flag of what does not look like a paper.
NOT_A_PAPER = "not_a_paper"
#: Lines at the beginning in which a letter greets.
GREETING_LINES = 6
#: Fields to fill in that make a text a form, and their least share of the lines.
FORM_FIELDS, FORM_SHARE = 3, 0.2
#: Words of a line of prose; labels of a figure and cells of a table are shorter.
PROSE_WORDS = 5
#: Lines without any prose that make a text the labels of a figure.
LABEL_LINES = 4

_GREETING = re.compile(
    r"(?:dear\b.{0,80}|to whom it may concern.{0,20}|to the (?:editors?|reviewers?|chairs?)\b.{0,60}"  # noqa: E501
    r"|sehr geehrte.{0,80}|(?:chers?|chères?|estimad[oa]s?)\b.{0,80}|尊敬的.{0,40})",
    re.I,
)
_ANSWER = re.compile(
    r"(?:(?:author(?:s'?|’s)? )?(?:response|reply|replies|rebuttal|answers?)(?: letter)?"
    r"(?: to (?:the )?(?:reviewers?|referees?|editors?|reviews?|comments?)\b.{0,60})?"
    r"|rebuttal\b.{0,60}|cover letter\b.{0,60}|point[- ]by[- ]point response\b.{0,60})\W*",
    re.I,
)
_FIELD = re.compile(r"_{4,}|\.{8,}|☐|☑|☒|\[ ?[xX ]?\](?=\s)|\( ?\)(?=\s)")


def likeness_flags(title: str, abstract: str, sections: Sequence[Section]) -> Iterator[Flag]:
    """Why this is no paper, if it is none."""
    lines = [line.strip() for one in sections for line in one.text.split("\n") if line.strip()]
    headed = any(is_named(one.heading.strip()) for one in sections)
    if abstract.strip() and not lines:
        yield Flag("abstract_only", "the paper has an abstract and no other text")
    elif _ANSWER.fullmatch(title.strip()) or (
        not abstract and not headed and _greets([title, *lines])
    ):
        yield Flag(NOT_A_PAPER, "reads like a letter or an answer to reviewers")
    elif _is_form(lines):
        yield Flag(NOT_A_PAPER, "reads like a form to fill in")
    elif not abstract and not headed and _is_labels(lines):
        yield Flag(NOT_A_PAPER, "has no sentences, as the labels of a figure")


def _greets(lines: Sequence[str]) -> bool:
    return any(_GREETING.match(line) for line in lines[:GREETING_LINES])


def _is_form(lines: Sequence[str]) -> bool:
    fields = sum(_FIELD.search(line) is not None for line in lines)
    return fields >= FORM_FIELDS and fields >= FORM_SHARE * len(lines)


def _is_labels(lines: Sequence[str]) -> bool:
    return len(lines) >= LABEL_LINES and all(len(line.split()) < PROSE_WORDS for line in lines)
