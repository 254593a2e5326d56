"""Encode a pair as token ids, truncated by the recipe's rule.

The prompt is built as models/text/prompt.py builds it for a worker. The answer is tokenised line
by line, as the grammar of models/grammar/token_tables.py generates it: every line begins with a new
token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from errors import UserError
from models.text.aspects import EMPTY_LINE, EMPTY_MARKER, AspectSet
from models.text.reviewer import MAX_NEW_TOKENS, MAX_PROMPT_TOKENS
from models.text.templates import AnyTokenizer, Template, encode_text
from trainer.data.dataset import TrainingPair

_LINE = re.compile(r"[^\n]*\n+|[^\n]+")


@dataclass(frozen=True)
class Limits:
    """Tokens of the prompt, which counts system prompt, template, paper and suffix; and of the
    answer, its end token included.
    """

    max_prompt_tokens: int = MAX_PROMPT_TOKENS
    max_response_tokens: int = MAX_NEW_TOKENS

    @property
    def max_pair_tokens(self) -> int:
        """Tokens of prompt and answer together."""
        return self.max_prompt_tokens + self.max_response_tokens


@dataclass(frozen=True)
class Sample:
    """One training pair: the loss covers `response_ids` only, which end with the end token."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    n_paper_tokens_cut: int
    n_review_tokens_cut: int


@dataclass(frozen=True)
class PairEncoder:
    """Makes samples. The tails of a long review and a long paper are cut, and a paper may use what
    a short review leaves, so prefix, suffix and end token are always complete.
    """

    tokenizer: AnyTokenizer
    template: Template
    aspects: AspectSet
    limits: Limits = Limits()

    def encode(self, pair: TrainingPair) -> Sample:
        """The sample of `pair`; UserError if the limits leave no room for a paper."""
        end = self.template.end_of_turn_id(self.tokenizer)
        review = review_tokens(self.tokenizer, pair.review)
        kept = review[: self.limits.max_response_tokens - 1]
        prefix = self.template.encode_prefix(self.tokenizer, self.aspects.system_prompt)
        suffix = self.template.encode_suffix(self.tokenizer)
        paper = encode_text(self.tokenizer, pair.paper)
        room = self.limits.max_pair_tokens - len(prefix) - len(suffix) - len(kept) - 1
        if room <= 0:
            raise UserError(
                f"max_prompt_tokens {self.limits.max_prompt_tokens} leaves no room for the paper."
            )
        return Sample(
            prompt_ids=(*prefix, *paper[:room], *suffix),
            response_ids=(*kept, end),
            n_paper_tokens_cut=max(0, len(paper) - room),
            n_review_tokens_cut=len(review) - len(kept),
        )


def review_tokens(tokenizer: AnyTokenizer, review: str) -> list[int]:
    """Token ids of an answer, tokenised by line, the empty marker separately."""
    lines = enumerate(_LINE.findall(review))
    return [token for number, line in lines for token in _line(tokenizer, line, number > 0)]


class ReviewCounter:
    """Counts an answer's tokens, with a cache of lines."""

    def __init__(self, tokenizer: AnyTokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[str, bool], int] = {}

    def __call__(self, review: str) -> int:
        """Tokens of `review` without the end token."""
        return sum(self._count(line, n > 0) for n, line in enumerate(_LINE.findall(review)))

    def _count(self, line: str, continues: bool) -> int:
        key = (line, continues)
        if key not in self._known:
            self._known[key] = len(_line(self._tokenizer, line, continues))
        return self._known[key]


def _line(tokenizer: AnyTokenizer, line: str, continues: bool) -> list[int]:
    if line.rstrip("\n") != EMPTY_LINE:
        return encode_text(tokenizer, line, continues=continues)
    marker = encode_text(tokenizer, EMPTY_MARKER, continues=continues)
    return marker + encode_text(tokenizer, line[len(EMPTY_MARKER) :])
