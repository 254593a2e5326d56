"""Makes empty aspects rarer, at one token.

The empty marker is `<No related terms> -`. Suppression acts on one token of it, the first after the
"<" that opens an aspect's first line; the grammar's tables say when a row stands there. With the
coefficient c in (0, 1], raw score s, temperature T and p the token's chance in softmax(scores / T):

    probability   s + T ln c                     odds(p') = c odds(p), p' = c p / (1 - p + c p)
    logit         c s if s > 0, else s / c       as the repetition penalty does

Neither moves the log-odds among all other tokens, and c = 1 moves nothing. A greedy row (T = 0)
has odds of 0 or infinity, which `probability` leaves as they are. Top-p comes after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.grammar.phrases import Phrases
from models.grammar.vocabulary import Vocabulary

#: Titles that look like the marker, and beginnings that reviews use often.
SAMPLE_TITLES = (
    "Clear", "Comprehensive", "Experimental", "Good", "Improve", "Insufficient", "Interesting",
    "Lack of", "Limited", "Missing", "No", "No ablation", "No code", "No comparison", "No theory",
    "Node", "Noise", "Nominal", "Non-convex", "None", "Nonlinear", "Normalization", "Not clear",
    "Notable", "Notation", "Nothing new", "Novel idea", "Novelty", "Now", "Nuanced",
    "Originality", "Strong", "The", "Theoretical", "Unclear", "Weak", "Well-written",
)  # fmt: skip


def suppress(
    scores: Tensor,
    token: int,
    mask: Tensor,
    *,
    coefficient: Tensor,
    by_logit: Tensor,
    temperature: Tensor,
) -> Tensor:
    """Lower `token`'s raw score in the rows where `mask` [B] is true; scores are [B, V].

    `coefficient`, `temperature` (float) and `by_logit` (bool) are [B]. No host synchronisation.
    """
    raw = scores[:, token]
    scaled = torch.where(raw > 0, raw * coefficient, raw / coefficient)
    lowered = torch.where(by_logit, scaled, raw + temperature * coefficient.log())
    active = mask & (coefficient < 1)
    return scores.index_copy(
        1,
        torch.full((1,), token, device=scores.device),
        torch.where(active, lowered, raw)[:, None],
    )


@dataclass(frozen=True)
class Collateral:
    """What suppression does to titles that are not the marker.

    `affected` begin with the suppressed token and are lowered with it. `merged` begin with a token
    that holds the "<" as well: they are chosen one token earlier and gain nothing.
    """

    token: int
    text: str
    affected: tuple[str, ...]
    merged: tuple[str, ...]
    unaffected: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"suppressed token {self.token} ({self.text!r}); "
            f"also lowers: {', '.join(self.affected) or 'nothing'}; "
            f"chosen before it: {', '.join(self.merged) or 'nothing'}; "
            f"spares: {', '.join(self.unaffected) or 'nothing'}"
        )


def collateral(tokenizer: Any, titles: Sequence[str] = SAMPLE_TITLES) -> Collateral:
    """Which of `titles` suppression lowers as well, when they open an aspect."""
    vocabulary = Vocabulary.read(tokenizer)
    phrases = Phrases.of(vocabulary, ())
    opening = phrases.marker[: phrases.suppressed + 1]
    tokens = {title: vocabulary.encode_line(f"<{title}>") for title in titles}
    affected = [title for title, ids in tokens.items() if ids[: len(opening)] == opening]
    before = phrases.before_suppressed
    merged = [title for title, ids in tokens.items() if ids[: len(before)] != before]
    return Collateral(
        token=opening[-1],
        text=vocabulary.text(opening[-1:]).decode(),
        affected=tuple(affected),
        merged=tuple(merged),
        unaffected=tuple(title for title in titles if title not in {*affected, *merged}),
    )
