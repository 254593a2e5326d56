"""Shorten a merged review to a token limit without breaking the output grammar.

Whole items are removed first, the least important of the longest aspect; an aspect is never
emptied, because a model would learn to leave it empty. Then the longest texts are cut at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from models.text.aspects import AspectSet
from models.text.parsing import render
from models.text.review import Item
from trainer.data.sentences import sentences

Count = Callable[[str], int]

#: Items that the output grammar allows under one aspect.
MAX_ITEMS = 8
#: Minimum number of words of a text.
FEW_WORDS = 8


def shorten(
    items: Sequence[Item], aspects: AspectSet, limit: int, count: Count
) -> tuple[str, bool] | None:
    """The review's text within `limit` tokens and whether it was cut; None if it cannot fit."""
    kept = [list(_of(items, key))[:MAX_ITEMS] for key in aspects.keys]
    changed = sum(map(len, kept)) < len(items)
    text = _text(kept, aspects)
    while count(text) > limit:
        if not (_drop(kept) or _trim(kept)):
            return None
        changed, text = True, _text(kept, aspects)
    return text, changed


def _of(items: Sequence[Item], key: str) -> Sequence[Item]:
    return [item for item in items if item.aspect == key]


def _text(kept: Sequence[Sequence[Item]], aspects: AspectSet) -> str:
    return render((item for items in kept for item in items), aspects)


def _drop(kept: list[list[Item]]) -> bool:
    fullest = max(kept, key=lambda items: (len(items), sum(len(item.text) for item in items)))
    if len(fullest) < 2:
        return False
    fullest.pop()
    return True


def _trim(kept: list[list[Item]]) -> bool:
    """Remove the last sentence, or the last fifth of the words, of the longest text."""
    longest = max((items for items in kept if items), key=lambda items: len(items[0].text))
    text = longest[0].text
    spans = list(sentences(text))
    words = text.split()
    if len(spans) > 1:
        shorter = text[: spans[-2][1]]
    elif len(words) > FEW_WORDS:
        shorter = " ".join(words[: max(FEW_WORDS, len(words) * 4 // 5)]).rstrip(" ,;:(")
    else:
        return False
    longest[0] = replace(longest[0], text=shorter)
    return True
