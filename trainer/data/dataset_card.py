"""A data set's card: how it was made, as data and as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from trainer.data.text_table import Table


@dataclass(frozen=True)
class CardSource:
    """A source of papers, its licence, and its number of pairs."""

    name: str
    licence: str
    n_pairs: int


@dataclass(frozen=True)
class CutRule:
    """Limits in tokens, end token included, and how many pairs they touch."""

    template: str
    max_prompt_tokens: int
    max_response_tokens: int
    n_papers_cut: int = 0
    n_reviews_shortened: int = 0


@dataclass(frozen=True)
class Card:
    """How a data set was made. `write` fills in counts, files and sha256."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    #: Name of an aspect set.
    aspects: str
    #: The merged reviewer whose reviews these are, "name vN".
    reviewer: str
    #: The tokenizer of the counts below.
    tokenizer: str
    cut: CutRule
    #: part (prompt, response, pair) -> percentile -> tokens, before truncation.
    lengths: Mapping[str, Mapping[str, int]]
    #: Cleaning rule -> number of excluded reviews or papers.
    rules: Mapping[str, int]
    sources: tuple[CardSource, ...]
    seed: int
    #: How papers were assigned to splits.
    split_rule: str
    code_version: str
    #: Pairs of each split.
    counts: Mapping[str, int] = field(default_factory=dict)
    #: SHA-256 of each split's file.
    files: Mapping[str, str] = field(default_factory=dict)
    #: Hash of `files`: names the data set in adapters' records.
    sha256: str = ""


def render(card: Card) -> str:
    """The card as Markdown."""
    splits, sources, lengths, rules = map(_markdown, tables(card))
    return "\n".join(
        [
            f"# {card.name}",
            "",
            f"Papers with one review each in {card.aspects} aspects, by {card.reviewer}.",
            f"SHA-256 of the data set: `{card.sha256}`. Made by Referee {card.code_version}.",
            "",
            *splits,
            f"Split rule: {card.split_rule} (seed {card.seed}).",
            "",
            "## Sources and licences",
            "",
            *sources,
            "## Lengths",
            "",
            f"In tokens of {card.tokenizer}, before a paper is cut.",
            "",
            *lengths,
            f"Cut rule: prompt to {card.cut.max_prompt_tokens} and response to "
            f"{card.cut.max_response_tokens} tokens with template {card.cut.template}; a paper may "
            "take what a short review leaves; only the paper's tail is cut, while training, and "
            "items of a review, while building. It touches "
            f"{card.cut.n_papers_cut} papers and {card.cut.n_reviews_shortened} reviews.",
            "",
            "## Kept out",
            "",
            *rules,
        ]
    )


def tables(card: Card) -> list[Table]:
    """Splits, sources, lengths and rules."""
    names = list(next(iter(card.lengths.values()), {}))
    lengths = [(part, *(values[n] for n in names)) for part, values in card.lengths.items()]
    sources = [(source.name, source.licence, source.n_pairs) for source in card.sources]
    return [
        Table(("split", "pairs"), list(card.counts.items())),
        Table(("source", "licence", "pairs"), sources),
        Table(("tokens", *names), lengths),
        Table(("kept out by", "papers"), list(card.rules.items())),
    ]


def _markdown(table: Table) -> list[str]:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines] + [""]
