"""Count the guided answers that parse strictly: demo-7 on real papers, and random models."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.measured import paper_texts, report
from models.engines.generate import GenerateEngine
from models.grammar.token_tables import GrammarTables
from models.text import reviewer
from models.text.aspects import FOUR, SEVEN
from models.text.parsing import parse
from models.text.reviewer import ReviewerConfig
from models.weights.loading import load
from testing import ROOT
from testing.random_reviews import batches, generate, random_model
from testing.small_models import small_model_folder
from testing.tokenizers import TOKENIZERS


@dataclass
class ParseTally:
    """Counts over some papers; counts of several processes can be added."""

    answers: int = 0
    strict: int = 0
    items: int = 0
    output_tokens: int = 0
    not_strict: list[str] = field(default_factory=list)
    empty: Counter[str] = field(default_factory=Counter)
    finish: Counter[str] = field(default_factory=Counter)
    versions: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: ParseTally) -> ParseTally:
        sums = {each: getattr(self, each) + getattr(other, each) for each in _SUMMED}
        return ParseTally(**sums, versions=other.versions)


_SUMMED = [each.name for each in fields(ParseTally) if each.name != "versions"]


def check_papers(count: int, processes: int) -> dict[str, Any]:
    """One review of each of `count` papers by demo-7 without adapter, spread over processes."""
    started = time.monotonic()
    papers = list(enumerate(paper_texts(count)))
    shares = [papers[i::processes] for i in range(processes)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        total = sum(pool.map(review_share, shares), ParseTally())
    return {
        "reviewer": "demo-7",
        "processes": processes,
        "seconds": round(time.monotonic() - started, 1),
        **vars(total),
    }


def review_share(share: list[tuple[int, tuple[str, str]]]) -> ParseTally:
    """Review some papers, each with its number as seed, in this process."""
    config = reviewer.load(reviewer.builtin()["demo-7"])
    engine = open_engine(config)
    tally = ParseTally(versions=dict(engine.versions))
    for seed, (paper, text) in share:
        generation = engine.submit(config.request(paper, text, seed)).result()
        review = parse(generation.text, config.aspect_set)
        tally.answers += 1
        tally.strict += review.strict
        tally.not_strict += [] if review.strict else [paper]
        tally.items += len(review.items)
        tally.output_tokens += generation.n_output_tokens
        tally.empty.update(review.empty_aspects)
        tally.finish[generation.finish] += 1
        print(f"{paper} strict={review.strict}", flush=True)
    engine.close()
    return tally


def open_engine(config: ReviewerConfig) -> GenerateEngine:
    """The small model, loaded as a worker loads it."""
    assert config.base is not None
    loaded = load(
        small_model_folder(),
        config.base,
        template=config.template or "",
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    adapter = ROOT / "adapters" / config.name
    return GenerateEngine(loaded, find_adapter=lambda _: adapter)


def check_random(name: str, answers: int) -> dict[str, Any]:
    """Answers of a random-weight model with this tokenizer."""
    each, started = TOKENIZERS[name](), time.monotonic()
    tables = GrammarTables.build(each.tokenizer, (SEVEN, FOUR), each.end_token_id)
    model, strict, texts = random_model(tables), 0, set()
    for requests in batches(tables, answers):
        for request, answer in zip(requests, generate(model, tables, requests), strict=True):
            text = each.tokenizer.decode(answer, skip_special_tokens=True)
            assert request.form is not None
            strict += parse(text, request.form).strict and each.end_token_id in answer
            texts.add(text)
    return {
        "tokenizer": name,
        "answers": answers,
        "strict": strict,
        "different": len(texts),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Exit 1 when an answer does not parse strictly."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--papers", type=int, default=100)
    options.add_argument("--processes", type=int, default=1, help="models at the same time")
    options.add_argument("--random", type=int, default=500, help="answers for each tokenizer")
    options.add_argument("--json", type=Path, help="write the result there")
    given = options.parse_args()
    names = ("smollm2", "llama3") if given.random else ()
    random = [check_random(name, given.random) for name in names]
    real = check_papers(given.papers, given.processes)
    report({"random": random, "real": real}, given.json)
    raise SystemExit(any(each["strict"] < each["answers"] for each in (*random, real)))


if __name__ == "__main__":
    main()
