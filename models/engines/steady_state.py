"""Lengths of papers for measuring an engine, and how its rate is computed.

Imports the standard library alone: other engines are measured in environments of their own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

#: Prompt tokens of papers: minimum, mode, maximum. The median is about 9,000 and no prompt is
#: truncated, as in the recipe's data.
LENGTHS = (6_500, 9_300, 11_138)
#: Tokens of every answer.
ANSWER_TOKENS = 700


def draw_length(number: int, scale: float = 1.0) -> tuple[int, random.Random]:
    """Prompt tokens of paper `number`, and the generator to draw its words with."""
    draw = random.Random(number)
    low, mode, high = (int(length * scale) for length in LENGTHS)
    return int(draw.triangular(low, high, mode)), draw


def staggered_answers(
    slots: int, n_tokens: int = ANSWER_TOKENS, *, steps_a_prompt: float = 0.0
) -> list[int]:
    """Tokens of the answers that fill an engine's slots, as in the middle of a run.

    With equal lengths all slots would finish at the same step. An engine that decodes while it
    fills its slots, for `steps_a_prompt` steps a prompt, gets the tokens that it writes meanwhile
    in addition; otherwise slots are refilled before all are full, and the rate is too high.
    """
    left = [max(1, n_tokens * (place + 1) // slots) for place in range(slots)]
    written = [round(steps_a_prompt * (slots - 1 - place)) for place in range(slots)]
    return [min(n_tokens, sum(both)) for both in zip(left, written, strict=True)]


def papers_a_second(admitted: Sequence[float], n_before: int) -> float:
    """Rate of admissions, given the times of all: of those after the first `n_before`."""
    times = sorted(admitted)[n_before:]
    return (len(times) - 1) / (times[-1] - times[0])
