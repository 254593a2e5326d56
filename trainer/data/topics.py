"""The subject of a review's point, and a short title for it.

Subjects are listed in configs/merging. Titles come from that file or from the point's own words, so
that nothing is invented.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import yaml

from models.text.aspects import Topic
from resources import package_folder
from trainer.data.stance import Stance

_TABLE = package_folder("configs") / "merging" / "subjects.yaml"


@dataclass(frozen=True)
class Subject:
    """One subject of reviews, with a title for each stance: praise, criticism, request."""

    topic: Topic
    words: re.Pattern[str]
    titles: tuple[str, str, str]


_OTHER = Subject("other", re.compile("$^"), ("Further strengths", "Further concerns", "Remarks"))
_STANCES: tuple[Stance, ...] = ("praise", "criticism", "request")
#: "Clarity: the paper ..." or "**Novelty.** The ..." has a label of its own.
_LABEL = re.compile(
    r"(?:\*\*|__)?([A-Z][^.:*<>\n]{2,40}?)(?:\*\*|__)?\s*[:.]?(?:\*\*|__)?\s*[:–—]\s+(?=\S)"
)
_LABEL_WORDS = 5


@lru_cache(maxsize=1)
def subjects() -> tuple[Subject, ...]:
    """All subjects, in the file's order."""
    rows = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return tuple(
        Subject(
            row["topic"],
            re.compile(rf"\b(?:{'|'.join(row['words'])})", re.IGNORECASE),
            (row["praise"], row["criticism"], row["request"]),
        )
        for row in rows
    )


def subject_of(text: str) -> Subject:
    """The subject with the most words in the text."""
    best, most = _OTHER, 0
    for subject in subjects():
        hits = len(subject.words.findall(text))
        if hits > most:
            best, most = subject, hits
    return best


def title_of(subject: Subject, stance: Stance) -> str:
    """The subject's title for a stance."""
    return subject.titles[_STANCES.index(stance) if stance in _STANCES else 2]


def own_title(text: str) -> tuple[str, str]:
    """A point's own label and the rest; no label unless it begins with a short one."""
    found = _LABEL.match(text)
    if found is None or len(found[1].split()) > _LABEL_WORDS:
        return "", text
    return found[1].strip(), text[found.end() :]
