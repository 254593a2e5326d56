"""Remove what a sentence quotes of other texts, such as a prompt in an error."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from urllib.parse import unquote

#: Consecutive words that both texts have make a quotation. Three occur in sentences that say the
#: same thing independently ("the number of tokens"); a phrase of a paper is longer.
QUOTED_WORDS = 4
#: Characters that make a word a quotation alone: URLs, hashes, text without spaces.
QUOTED_CHARACTERS = 24
#: Stands for what was removed.
REMOVED = "[...]"

_WORD = re.compile(r"\w+")
#: Escapes of JSON and Python, which would join the words beside them.
_ESCAPES = re.compile(r"\\+u([0-9a-fA-F]{4})|\\+x([0-9a-fA-F]{2})|\\+[nrt]")


def without_quotations(sentence: str, sources: Iterable[str], max_characters: int) -> str:
    """The sentence on one line, without what it quotes of `sources`, cut to `max_characters`.

    Only a bounded part of the sentence is examined, so its length costs nothing.
    """
    # A quotation is shorter when it is removed; what follows a long one is not worth reading.
    examined = sentence[: 20 * max_characters]
    if len(examined) < len(sentence):
        # Its last word may be half of a quoted one.
        examined = examined.rsplit(" ", 1)[0]
    plain = " ".join(_unescaped(examined).split())
    words = [(match.start(), match.end()) for match in _WORD.finditer(plain)]
    known = _phrases(sources)
    quoted = _quoted(plain, words, known)
    kept, end = [], 0
    for first, last in quoted:
        start = words[first][0]
        kept += [plain[end:start], REMOVED]
        end = words[last][1]
    kept.append(plain[end:])
    return _cut("".join(kept), max_characters)


def _unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        digits = match[1] or match[2]
        return chr(int(digits, 16)) if digits else " "

    return html.unescape(_ESCAPES.sub(character, unquote(text)))


def _phrases(sources: Iterable[str]) -> set[tuple[str, ...]]:
    """Each run of QUOTED_WORDS words, and each word that is long enough alone."""
    phrases: set[tuple[str, ...]] = set()
    for source in sources:
        words = [word.casefold() for word in _WORD.findall(source)]
        phrases.update(zip(*(words[n:] for n in range(QUOTED_WORDS)), strict=False))
        phrases.update((word,) for word in words if len(word) >= QUOTED_CHARACTERS)
    return phrases


def _quoted(
    text: str, words: list[tuple[int, int]], known: set[tuple[str, ...]]
) -> list[tuple[int, int]]:
    """(first, last) word of each quotation, adjoining ones joined."""
    plain = [text[start:end].casefold() for start, end in words]
    found: list[tuple[int, int]] = []
    for first in range(len(plain)):
        for size in (QUOTED_WORDS, 1):
            phrase = tuple(plain[first : first + size])
            if len(phrase) < size or phrase not in known:
                continue
            last = first + size - 1
            if found and first <= found[-1][1] + 1:
                found[-1] = (found[-1][0], max(last, found[-1][1]))
            else:
                found.append((first, last))
            break
    return found


def _cut(text: str, max_characters: int) -> str:
    return text if len(text) <= max_characters else text[: max_characters - 4].rstrip() + " ..."
