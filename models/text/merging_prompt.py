"""The prompt with which a model merges the human reviews of a paper into one.

The prompt is ours. Its text is part of a reviewer's hash, so a change makes a new reviewer version
and merges of two prompts are never mixed up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.text.aspects import EMPTY_LINE, AspectSet

#: Identity of the merger without a model; raise the number when its output changes.
STRUCTURED = "structured merging, version 1"
#: Number of the prompt, for people: the hash tells versions apart.
PROMPT_VERSION = 1

_PROMPT = """\
You prepare training data. You are given all reviews that human reviewers wrote of one paper. \
Write one review that holds what they say, sorted under fixed headings. (Prompt version {version})

Rules:
1. Use exactly these headings, each on its own line in square brackets, in this order:
{headings}
2. Under a heading write one line per point: <Short title> followed by one to three sentences. \
The title has two to six words and holds no angle brackets. A point takes one line.
3. Points that several reviewers make become one line. Put first what most reviewers say. \
At most four lines under a heading, about two are usual.
4. Where reviewers disagree, keep both sides and say that opinions differ.
5. When no reviewer says anything under a heading, write exactly this line and nothing else there:
{empty}
6. Say nothing that no reviewer says. Add no judgement, no fact and no suggestion of your own.
7. Leave out scores, thanks, reviewers' names and numbers, and everything about a rebuttal, a \
discussion or a later version of the paper.
8. One empty line between headings. No text before the first heading and none after the last point.
9. Stay below {words} words in all."""

#: Words that fit the recipe's 1,150 tokens with room for headings.
_MAX_WORDS = 700


def merging_prompt(aspects: AspectSet) -> str:
    """The system prompt of a merger for these aspects."""
    return _PROMPT.format(
        version=PROMPT_VERSION,
        headings="\n".join(f"[{aspect.heading}]" for aspect in aspects.aspects),
        empty=EMPTY_LINE,
        words=_MAX_WORDS,
    )


@dataclass(frozen=True)
class HumanReviewText:
    """One human review as the merger reads it: (part's name, text) in order."""

    parts: Sequence[tuple[str, str]]


def merging_input(title: str, reviews: Sequence[HumanReviewText]) -> str:
    """The text that a merger reads in place of a paper: its title and the reviews."""
    blocks = [f"Paper: {title}"]
    for number, review in enumerate(reviews, start=1):
        lines = [f"{name.capitalize()}: {text}" for name, text in review.parts]
        blocks.append("\n".join([f"=== Review {number} ===", *lines]))
    return "\n\n".join(blocks)
