"""Find text that a reviewer added after the first version of a review.

Such text refers to the rebuttal or to a later version of the paper. Whole paragraphs are removed,
or sentences in texts that lost their line breaks.
"""

from __future__ import annotations

import re

from trainer.data.sentences import sentences

Span = tuple[int, int]

#: Opens an addition: a label at the start of a paragraph or sentence.
_LABEL = re.compile(
    r"[\W_]*(?:(?:final|post|late|latest|major|brief|quick|second)[\s-]*)*"
    r"(?:update[sd]?|edit(?:ed)?|addendum|post[\s-]*rebuttal|after[\s-]+(?:the\s+)?"
    r"(?:rebuttal|author|discussion|revision|response)|rebuttal|p\.?\s?s\.?)\b"
    r"(?!\s+(?:rule|step|equation|gate|function|the\s+parameters?|distance))[^.:\n]{0,60}(?::|\n|--|==|\]|$)",
    re.IGNORECASE,
)
#: Refers to the exchange with the authors, at any position.
_EXCHANGE = re.compile(
    r"\b(?:after|having)\s+(?:read|reading|seen|seeing)\b.{0,40}\b(?:rebuttal|response|reply|author)"
    r"|\b(?:authors?'?s?|your|the|their)\s+(?:rebuttal|response|reply|replies|feedback)\b"
    r"|\bthanks?\b.{0,40}\b(?:rebuttal|response|reply|clarif|answer|revision|update)"
    r"|\b(?:raised?|raising|increased?|increasing|updated?|upgraded?|lowered?|changed?|changing"
    r"|revised?|improved?|adjusted?|kept?|keep|maintain(?:ed)?|stick)\b.{0,25}\b(?:my|the)\s+"
    r"(?:\w+\s+)?(?:score|rating|evaluation|recommendation)"
    r"|\b(?:rebuttal|revised version|updated version|latest revision|new version of the paper)\b",
    re.IGNORECASE,
)
#: Begins the original review below an addition at its top.
_ORIGINAL = re.compile(
    r"[\W_]*(?:original|initial|old|first|previous|pre[\s-]*rebuttal)\s+(?:review|comments?|text)\b"
    r"|\s*[-=_*#]{4,}",
    re.IGNORECASE,
)
#: A text with fewer paragraphs is assumed to have lost its line breaks.
_FEW_PARAGRAPHS = 2
_PARAGRAPH = re.compile(r"[^\n]+(?:\n(?!\s*\n)[^\n]+)*")


def late_additions(text: str) -> tuple[Span, ...]:
    """[start, end) of every addition, in order, adjoining ones joined."""
    blocks = [match.span() for match in _PARAGRAPH.finditer(text)]
    if len(blocks) <= _FEW_PARAGRAPHS:
        blocks = [span for block in blocks for span in sentences(text, *block)]
    return _joined(text, _late(text, blocks))


def _late(text: str, blocks: list[Span]) -> list[Span]:
    found = []
    adding = False
    for number, (start, end) in enumerate(blocks):
        block = text[start:end]
        if _LABEL.match(block):
            # At the top of a review an addition ends where the review begins, else with its block.
            later = (text[a:b] for a, b in blocks[number + 1 :])
            adding = number > 0 or any(map(_ORIGINAL.match, later))
            found.append((start, end))
        elif _ORIGINAL.match(block):
            adding = False
        elif adding or _EXCHANGE.search(block):
            found.append((start, end))
    return found


def _joined(text: str, spans: list[Span]) -> tuple[Span, ...]:
    joined: list[Span] = []
    for start, end in spans:
        if joined and not text[joined[-1][1] : start].strip():
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)
