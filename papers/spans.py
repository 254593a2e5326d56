"""Takes stretches out of a text, in one pass whatever the text."""

from __future__ import annotations

import re


def remove_between(text: str, opening: re.Pattern[str], closing: re.Pattern[str]) -> str:
    """The text without what stands from an opening to the next closing; what is never closed stays.

    A lazy regular expression would do the same in quadratic time on openings without a closing.
    """
    parts: list[str] = []
    start = 0
    while (found := opening.search(text, start)) is not None:
        end = closing.search(text, found.end())
        if end is None:
            break
        parts.append(text[start : found.start()])
        start = end.end()
    return " ".join([*parts, text[start:]])
