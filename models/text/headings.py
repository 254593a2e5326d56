"""Finds headings in drifted answers by a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from models.text.aspects import AspectSet, normalise

#: Names that answers use instead of the headings, normalised, and the aspect that each stands for.
#: An aspect that a set does not have, and None, mean unplaced. Taken from conference review forms,
#: from older prompts of this line of systems and from published answers of its models.
_HEADING_ALIASES: dict[str, str | None] = {
    "significance and novelty": "significance",
    "importance and novelty": "significance",
    "compared to previous similar works": "novelty",
    "compared to previous similar works what are the essential differences": "novelty",
    "reasons for acceptance": "acceptance",
    "reasons to accept": "acceptance",
    "strengths": "acceptance",
    "strength": "acceptance",
    "pros": "acceptance",
    "reasons for rejection": "rejection",
    "reasons to reject": "rejection",
    "weaknesses": "rejection",
    "weakness": "rejection",
    "cons": "rejection",
    "other suggestions": "suggestions",
    "suggestions for improvement": "suggestions",
    "suggestions": "suggestions",
    "questions": "suggestions",
    "questions for the authors": "suggestions",
    "suggestions and questions": "suggestions",
    "questions and suggestions": "suggestions",
    "summary": None,
    "summary of the paper": None,
    "paper summary": None,
    "summary of the review": None,
    "strengths and weaknesses": None,
    "limitations": None,
    "soundness": None,
    "presentation": None,
    "contribution": None,
    "rating": None,
    "score": None,
    "overall": None,
    "overall assessment": None,
    "overall score": None,
    "recommendation": None,
    "decision": None,
    "confidence": None,
    "conclusion": None,
    "ethics review": None,
    "references": None,
}

#: Characters: longer than the longest heading (136) with any decoration.
_LONGEST = 250
_PREFIX = re.compile(r"[#>\s]*((?:[-*•+–]|\(?\d{1,2}[.)])\s+)?")
_NUMBER = re.compile(r"\d{1,2} ")
_AFTER = re.compile(r"\s*:?")


@dataclass(frozen=True)
class Heading:
    """A heading at the start of a line: `length` characters, the rest of the line is content.

    `aspect` is None for a heading under which everything is unplaced.
    """

    aspect: str | None
    length: int


@lru_cache
def heading_names(aspects: AspectSet) -> dict[str, str | None]:
    """Aspect, or None for unplaced, of every normalised name that is a heading in this set."""
    drift = {name: key if key in aspects.keys else None for name, key in _HEADING_ALIASES.items()}
    return drift | {normalise(aspect.heading): aspect.key for aspect in aspects.aspects}


def find_heading(line: str, names: dict[str, str | None]) -> Heading | None:
    """The heading with which this stripped line begins, if any.

    A heading fills its line, or stands in front of a colon, in square brackets or in bold.
    """
    if line.startswith("<"):
        return None
    prefix = _PREFIX.match(line)
    offset, mark = (prefix.end(), prefix[1]) if prefix else (0, None)
    for length in _ends(line, offset):
        name = normalise(line[offset:length])
        number = _NUMBER.match(name)
        name = name[number.end() :] if number else name
        if name not in names:
            continue
        # "- Limitations: the authors ..." is an item, not the end of its section.
        if mark and length < len(line) and names[name] is None:
            continue
        return Heading(names[name], length)
    return _unknown(line)


def _ends(line: str, offset: int) -> list[int]:
    """Where the heading may end: with the line, a bracket, bold type or a colon."""
    ends = [len(line)] if len(line) <= _LONGEST else []
    for opening, closing in (("[", "]"), ("**", "**"), ("", ":")):
        if closing in line and line.startswith(opening, offset):
            found = line.find(closing, offset + len(opening), offset + _LONGEST)
            after = _AFTER.match(line, found + len(closing))
            if found >= 0 and after:
                ends.append(after.end())
    return ends


def _unknown(line: str) -> Heading | None:
    """Text that is marked as a heading but is none of ours: what follows it is not ours either."""
    bracketed = line.startswith("[") and line.endswith("]") and line.count("[") == 1
    if not (bracketed or line.startswith("#")) or len(line) > _LONGEST:
        return None
    return Heading(None, len(line)) if any(map(str.isalpha, line)) else None
