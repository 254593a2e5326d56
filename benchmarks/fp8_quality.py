"""What FP8 prompts and an 8-bit cache change in reviews, to decide whether they are the default.

`pack` writes papers and people's merged reviews into one file, for a GPU machine without the data.
There, `loss` reads the reviews teacher-forced in each arithmetic, `reviews` writes reviews in FP8
and exactly, and `layers` compares hidden states layer by layer. `pk` pools the comparisons that
`referee judge match` has made of those reviews. docs/gpu.md has the rule and the commands. Papers
are counted and never named in results.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks import fp8_papers
from benchmarks.fp8_layers import measure_large, measure_small
from benchmarks.fp8_loss import NAMES, make_sample, measure
from benchmarks.fp8_reviews import SIDES, write_reviews
from benchmarks.llama_shape import TINY
from benchmarks.measured import report
from models.weights.random_weights import LLAMA31_8B
from models.weights.store import load_tokenizer
from resources import package_folder
from testing.small_models import small_model_folder

#: An ignored folder: the file must not be committed.
PACKED = Path(".gpukit/fp8_papers.jsonl.xz")

#: The real small model, and random weights in the 8B's shape.
MODELS = ("small", "large")


def main() -> None:
    """Do what is asked for."""
    options = _options()
    acts = {"pack": _pack, "loss": _loss, "reviews": _reviews, "pk": _pk, "layers": _layers}
    acts[options.act](options)


def _pack(options: argparse.Namespace) -> None:
    n_papers = fp8_papers.pack_dataset(options.dataset, options.packed)
    print(f"{n_papers} papers in {options.packed}, {options.packed.stat().st_size:,} bytes")


def _loss(options: argparse.Namespace) -> None:
    papers = fp8_papers.read(options.packed, fp8_papers.HELD_OUT)[: options.papers]
    results = measure(
        papers, options.adapter, options.only, processes=options.processes, tiny=options.tiny
    )
    report(results, options.json)


def _reviews(options: argparse.Namespace) -> None:
    papers = fp8_papers.read(options.packed)[: options.papers]
    results = write_reviews(
        papers,
        options.adapter,
        options.out,
        sides=options.sides,
        samples=options.samples,
        slots=options.slots,
        tiny=options.tiny,
    )
    report(results, options.json)


def _pk(options: argparse.Namespace) -> None:
    # Neither a database nor scipy is needed on the GPU machine.
    from benchmarks.fp8_pk import pooled_score
    from commands.database import ready_database
    from db.comparison_records import read_comparison

    database = ready_database()
    records = [read_comparison(database, number) for number in options.comparisons]
    report(pooled_score(records), options.json)


def _layers(options: argparse.Namespace) -> None:
    results: dict[str, Any] = {}
    if "small" in options.models:
        papers = fp8_papers.read(options.packed, fp8_papers.HELD_OUT)[: options.papers]
        tokenizer = load_tokenizer(small_model_folder())
        samples = [make_sample(tokenizer, paper, tiny=options.tiny) for paper in papers]
        results["small"] = measure_small([sample.reference.prompt for sample in samples])
    if "large" in options.models:
        results["large"] = measure_large(TINY if options.tiny else LLAMA31_8B)
    report(results, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    acts = parser.add_subparsers(dest="act", required=True)
    pack = _act(acts, "pack", "write the packed file")
    pack.add_argument("dataset", type=Path, help="folder that `referee data build` wrote")
    loss = _act(acts, "loss", "loss of people's reviews")
    reviews = _act(acts, "reviews", "write reviews")
    layers = _act(acts, "layers", "errors of hidden states")
    pk = acts.add_parser("pk", help="pool comparisons")
    pk.add_argument("comparisons", type=int, nargs="+", help="numbers of `judge match`'s")
    for each in (loss, reviews, layers):
        each.add_argument("--papers", type=int, help="only the first so many")
        each.add_argument("--tiny", action="store_true", help="try it without a GPU")
    for each in (loss, reviews):
        each.add_argument("--adapter", type=Path, default=package_folder("adapters") / "demo-7")
    for each in (loss, reviews, layers, pk):
        each.add_argument("--json", type=Path)
    loss.add_argument("--only", nargs="+", default=NAMES, choices=NAMES)
    loss.add_argument("--processes", type=int, default=1, help="modes at the same time")
    reviews.add_argument("out", type=Path, help="folder of the reviews")
    reviews.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    reviews.add_argument("--samples", type=int, default=4)
    reviews.add_argument("--slots", type=int)
    layers.set_defaults(papers=8)
    layers.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    return parser.parse_args()


def _act(acts: Any, name: str, sentence: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = acts.add_parser(name, help=sentence)
    parser.add_argument("--packed", type=Path, default=PACKED, help="the packed file")
    return parser


if __name__ == "__main__":
    main()
