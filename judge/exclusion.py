"""Exclusion of papers that a rival was trained on.

A paper is recognized by the hash of its text, its id at a source, or a nearly equal title.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from db.comparisons import ComparisonPaper
from db.training_papers import TrainingPapers

#: Share of two titles' words that must be common: one changed word of nine still counts.
NEAR_TITLE = 0.8
#: Titles of fewer words must be equal: "Deep learning" is not "Deep linking".
_MIN_WORDS = 3


class TitleIndex:
    """An index of titles for the search of nearly equal ones."""

    def __init__(self, titles: Iterable[str]) -> None:
        self._words = [words for title in titles if (words := _words(title))]
        self._holding: dict[str, list[int]] = defaultdict(list)
        for index, words in enumerate(self._words):
            for word in words:
                self._holding[word].append(index)

    def has_near(self, title: str) -> bool:
        """Whether there is a title with nearly the same words."""
        words = _words(title)
        if not words:
            return False
        shared: dict[int, int] = defaultdict(int)
        for word in words:
            for index in self._holding.get(word, ()):
                shared[index] += 1
        return any(self._near(words, self._words[index], n) for index, n in shared.items())

    def _near(self, a: frozenset[str], b: frozenset[str], n_shared: int) -> bool:
        if min(len(a), len(b)) < _MIN_WORDS:
            return a == b
        return n_shared / (len(a) + len(b) - n_shared) >= NEAR_TITLE


def _words(title: str) -> frozenset[str]:
    return frozenset(re.findall(r"[^\W_]+", title.lower()))


def exclude(
    papers: Sequence[ComparisonPaper], seen: TrainingPapers, names: Mapping[int, set[str]]
) -> list[ComparisonPaper]:
    """Mark the papers that were seen in training; `names` are {paper id: ids at sources}."""
    titles = TitleIndex(seen.titles)
    return [replace(paper, excluded=_reason(paper, seen, names, titles)) for paper in papers]


def _reason(
    paper: ComparisonPaper, seen: TrainingPapers, names: Mapping[int, set[str]], titles: TitleIndex
) -> str | None:
    if paper.sha256 in seen.hashes:
        return "trained_hash"
    if names.get(paper.paper_id, set()) & seen.source_ids:
        return "trained_source"
    return "trained_title" if titles.has_near(paper.title) else None
