"""Join the lines of a printed page into paragraphs.

Words that were hyphenated at a line's end are joined. Whether "state-of-the-" + "art" keeps its
hyphen depends on how the paper writes the word elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_BROKEN = re.compile(r"([^\W\d_]+(?:-[^\W\d_]+)*)[-‐\u00ad]$")
_HYPHENS = ("-", "‐", "\u00ad")
#: Characters that can precede a hyphenated word.
LONGEST_WORD = 60
_HEAD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


class WordCounts:
    """Counts of the words of a paper inside its lines."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._counts: Counter[str] = Counter()
        for line in lines:
            words = _WORD.findall(line)
            whole = words[:-1] if line.endswith(_HYPHENS) else words
            self._counts.update(word.lower() for word in whole)

    def join(self, first: str, second: str) -> str:
        """Two consecutive lines as one text."""
        if not first.endswith(_HYPHENS):
            return first + " " + second
        # The last word only: the text grows line by line.
        start = max(0, len(first) - LONGEST_WORD)
        broken, head = _BROKEN.search(first, start), _HEAD.match(second)
        if not broken or not head:
            # A lone dash or a hyphen before a number stays: "2015-" + "16".
            glue = "" if re.search(r"\w[-‐]$", first) else " "
            return first + glue + second
        if self._keeps_hyphen(broken[1], head[0]):
            return first[: broken.end(1)] + "-" + second
        return first[: broken.end(1)] + second

    def _keeps_hyphen(self, first: str, second: str) -> bool:
        joined = self._counts[(first + second).lower()]
        hyphened = self._counts[f"{first}-{second}".lower()]
        if joined != hyphened:
            return hyphened > joined
        # Unseen elsewhere: "non-Gaussian", "state-of-the-art" and "high-order" keep their hyphen,
        # "opti-mal" does not.
        if second[0].isupper() and not first.isupper():
            return True
        return "-" in first or (self._is_word(first, 3) and self._is_word(second, 4))

    def _is_word(self, text: str, letters: int) -> bool:
        return len(text) >= letters and self._counts[text.lower()] >= 2


def paragraph(lines: Sequence[str], vocabulary: WordCounts) -> str:
    """The lines of one paragraph as continuous text."""
    text = ""
    for line in lines:
        text = vocabulary.join(text, line) if text else line
    return text
