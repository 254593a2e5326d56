"""Flags for text that a source contains and its reader does not see."""

from __future__ import annotations

import re
from collections.abc import Iterator

from papers.paper import HIDDEN_TEXT, Flag

#: Words and letters; less hidden text aligns columns or leaves a gap, and is not flagged.
FLAGGED_WORDS, FLAGGED_LETTERS = 2, 8
#: Letters of one word that are a text of its own, as in scripts without spaces.
FLAGGED_WORD_LETTERS = 20
#: Characters of evidence that are kept for each reason.
MAX_EVIDENCE = 20_000

_WORD = re.compile(r"[^\W\d_]{2,}")
_SPACELESS = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


class Unseen:
    """Hidden text, collected by the reason why it cannot be seen."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}

    def add(self, reason: str, text: str) -> None:
        """Keep a piece of hidden text."""
        self._texts.setdefault(reason, []).append(text)

    def flags(self) -> Iterator[Flag]:
        """A flag for each reason whose text is more than an aid to alignment."""
        for reason, pieces in self._texts.items():
            text = " ".join("".join(pieces).split())[:MAX_EVIDENCE]
            if is_text(text):
                yield Flag.quoting(HIDDEN_TEXT, reason, text)


def is_text(text: str) -> bool:
    """Is this a text, and not a word or number that aligns something?"""
    words = _WORD.findall(text)
    letters = sum(map(len, words))
    if len(words) >= FLAGGED_WORDS and letters >= FLAGGED_LETTERS:
        return True
    return letters >= FLAGGED_WORD_LETTERS or len(_SPACELESS.findall(text)) >= FLAGGED_LETTERS
