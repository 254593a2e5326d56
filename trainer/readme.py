"""A data set's card as a page for people; knows nothing of the pairs themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.dataset import Card


def render(card: Card) -> str:
    """The card as Markdown."""
    return "\n".join(
        [
            f"# {card.name}",
            "",
            f"Papers with one review each in {card.aspects} aspects, by {card.reviewer}.",
            "",
            f"SHA-256 of the data set: `{card.sha256}`. Made by Referee {card.code_version}.",
            "",
            *_table(("split", "pairs"), card.counts.items()),
            f"Split rule: {card.split_rule} (seed {card.seed}).",
            "",
            "## Sources and licences",
            "",
            *_table(
                ("source", "licence", "pairs"),
                [(source.name, source.licence, source.n_pairs) for source in card.sources],
            ),
            "## Lengths",
            "",
            f"In tokens of {card.tokenizer}, before anything is cut.",
            "",
            *_lengths(card.lengths),
            f"Cut rule: prompt to {card.cut.max_prompt_tokens} and response to "
            f"{card.cut.max_response_tokens} tokens with template {card.cut.template}; a paper may "
            "take what a short review leaves; only the paper's tail is cut, while training, and "
            "whole items of a review, while building. It touches "
            f"{card.cut.n_papers_cut} papers and {card.cut.n_reviews_shortened} reviews.",
            "",
            "## Cleaning",
            "",
            *_table(("rule", "kept out"), card.rules.items()),
        ]
    )


def _lengths(lengths: Mapping[str, Mapping[str, int]]) -> list[str]:
    names = list(next(iter(lengths.values()), {}))
    rows = [(part, *(values[name] for name in names)) for part, values in lengths.items()]
    return _table(("part", *names), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines] + [""]
