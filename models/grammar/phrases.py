"""The fixed texts of the grammar, headings and empty marker, as tokens of a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.grammar.vocabulary import Vocabulary
from models.text.aspects import EMPTY_MARKER, AspectSet

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Phrases:
    """The marker and each set's heading lines, each where it begins a line.

    `openers` are the lines with which an answer may begin: a tokenizer may write a set's first
    heading differently there. `suppressed` is the place in `marker` of the token that suppression
    acts on, the first that says more than "<".
    """

    marker: Tokens
    suppressed: int
    headings: Mapping[str, tuple[Tokens, ...]]
    openers: Mapping[str, Tokens]

    @classmethod
    def of(cls, vocabulary: Vocabulary, aspect_sets: Sequence[AspectSet]) -> Phrases:
        """UserError when the tokenizer merges a line's beginning with the line before."""
        marker = vocabulary.encode_line(EMPTY_MARKER)
        lines = {
            each.name: [f"[{aspect.heading}]\n" for aspect in each.aspects] for each in aspect_sets
        }
        return cls(
            marker=marker,
            suppressed=1 if vocabulary.pieces[marker[0]] == b"<" else 0,
            headings={n: tuple(map(vocabulary.encode_line, each)) for n, each in lines.items()},
            openers={n: vocabulary.encode(each[0]) for n, each in lines.items()},
        )

    @property
    def before_suppressed(self) -> Tokens:
        """The marker's tokens before the suppressed one."""
        return self.marker[: self.suppressed]

    def tokens(self) -> set[int]:
        """Every token that occurs."""
        chains = [self.marker, *self.openers.values()]
        chains += [heading for each in self.headings.values() for heading in each]
        return {token for chain in chains for token in chain}
