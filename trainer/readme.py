"""A data set's card as a page for people; knows nothing of the pairs themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.display import Table

if TYPE_CHECKING:
    from trainer.dataset import Card


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
