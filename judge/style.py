"""ROUGE between two texts: a measure of style only; knows nothing of what the texts say.

Fine-tuned reviewers beat large models on ROUGE and lose to them on correctness (CoCoReviewBench
2026), so no claim of this project rests on it. Definition: Lin (2004), F-measure, on lower-case
runs of letters and digits, without stemming. No library: those on offer bring stemmers and
corpora for what are two counts.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Rouge:
    """F-measures from 0 to 1 of unigrams, bigrams and the longest common subsequence."""

    rouge_1: float
    rouge_2: float
    rouge_l: float


def rouge(text: str, reference: str) -> Rouge:
    """Say how alike two texts are worded."""
    ours, theirs = (re.findall(r"[^\W_]+", part.lower()) for part in (text, reference))
    return Rouge(
        _f_measure(_common(ours, theirs, 1), len(ours), len(theirs)),
        _f_measure(_common(ours, theirs, 2), len(ours) - 1, len(theirs) - 1),
        _f_measure(longest_common_subsequence(ours, theirs), len(ours), len(theirs)),
    )


def longest_common_subsequence(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence, a row at a time in one integer (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for index, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << index
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        met = row & places.get(word, 0)
        row = (row + met | row - met) & full
    return len(a) - row.bit_count()


def _common(a: list[str], b: list[str], n: int) -> int:
    ours, theirs = (Counter(zip(*(words[i:] for i in range(n)), strict=False)) for words in (a, b))
    return (ours & theirs).total()


def _f_measure(common: int, n_ours: int, n_theirs: int) -> float:
    return 2 * common / (n_ours + n_theirs) if common else 0.0
