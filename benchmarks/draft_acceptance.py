"""How many tokens of reviews a drafter by n-gram look-up would have saved steps for.

With seeded sampling a drafted token is accepted exactly if it is the one that the seed draws, so a
review's text does not change, and its acceptance can be computed from the text: at each step the
draft is what followed the latest earlier occurrence of the last n tokens, in the paper or in the
answer (Saxena 2023, prompt lookup decoding). Tokens that the grammar forces take no step of their
own without a drafter either: only the text of items is counted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks import fp8_papers
from benchmarks.fp8_papers import ReviewedPaper
from benchmarks.measured import report
from benchmarks.small_model import item_mask, review_tokens
from models.weights.store import load_tokenizer
from testing.small_models import small_model_folder

#: Tokens that a step can read beside the last sampled one at no cost in attention.
DRAFTED = 3
#: Lengths of the n-gram that is looked up.
NGRAMS = (2, 3, 4)


def main() -> None:
    """Print the acceptance for people's reviews, and for written ones if files are given."""
    options = _options()
    tokenizer = load_tokenizer(small_model_folder())
    papers = fp8_papers.read(options.packed)[: options.papers]
    pairs = {"people": [(paper, paper.review) for paper in papers]}
    if options.reviews:
        pairs["written"] = _written(papers, options.reviews)
    results = {
        kind: {f"{n} tokens looked up": measure(tokenizer, texts, n) for n in NGRAMS}
        for kind, texts in pairs.items()
    }
    report({"drafted_tokens": DRAFTED, **results}, options.json)


def _written(
    papers: Sequence[ReviewedPaper], files: Sequence[Path]
) -> list[tuple[ReviewedPaper, str]]:
    by_hash = {paper.sha256: paper for paper in papers}
    lines = (json.loads(line) for file in files for line in file.read_text().split("\n") if line)
    return [
        (by_hash[each["custom_id"]], each["text"]) for each in lines if each["custom_id"] in by_hash
    ]


def measure(
    tokenizer: Tokenizer, pairs: Sequence[tuple[ReviewedPaper, str]], n_gram: int
) -> dict[str, Any]:
    """Tokens of items' text and the steps that they take with a drafter, over all reviews."""
    n_tokens = n_steps = n_drafts = 0
    for paper, review in pairs:
        prompt = fp8_papers.pair_encoder(tokenizer).encode(paper.pair).prompt_ids
        answer = review_tokens(tokenizer, review)
        counted = item_mask(tokenizer, review)
        steps, drafts = count_steps(prompt, answer, counted, n_gram)
        n_tokens, n_steps, n_drafts = n_tokens + sum(counted), n_steps + steps, n_drafts + drafts
    return {
        "reviews": len(pairs),
        "tokens": n_tokens,
        "steps": n_steps,
        "steps_with_a_draft": n_drafts,
        "tokens_a_step": round(n_tokens / n_steps, 4),
        "accepted_of_drafted": round((n_tokens - n_steps) / max(1, DRAFTED * n_drafts), 4),
    }


def count_steps(
    prompt: Sequence[int], answer: Sequence[int], counted: Sequence[bool], n_gram: int
) -> tuple[int, int]:
    """Steps that sample the counted tokens, and how many of them have a draft.

    A step samples one token after those of the draft that are accepted. A draft ends at the first
    token that is not counted: the grammar continues there.
    """
    tokens = [*prompt, *answer]
    places: dict[tuple[int, ...], int] = {}
    known = n_gram
    steps = drafts = 0
    position, end = len(prompt), len(tokens)
    while position < end:
        if not counted[position - len(prompt)]:
            position += 1
            continue
        for after in range(known, position):
            places[tuple(tokens[after - n_gram : after])] = after
        known = max(known, position)
        source = places.get(tuple(tokens[position - n_gram : position]))
        draft = [] if source is None else tokens[source : min(source + DRAFTED, position)]
        accepted = 0
        for token in draft:
            here = position + accepted
            if here >= end or not counted[here - len(prompt)] or tokens[here] != token:
                break
            accepted += 1
        steps += 1
        drafts += bool(draft)
        position += accepted
        if position < end and counted[position - len(prompt)]:
            position += 1
    return steps, drafts


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packed", type=Path, default=Path(".gpukit/fp8_papers.jsonl.xz"))
    parser.add_argument("--reviews", type=Path, nargs="*", help="files of fp8_quality reviews")
    parser.add_argument("--papers", type=int)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
