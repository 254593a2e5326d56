"""Loss of the small model on items' text, with its adapter and without, on unseen papers.

Headings, empty markers and the `<` of an item are not counted: the grammar writes them for both.
What is left is the mean over tokens, with a bootstrap interval over papers (10,000 draws).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

from benchmarks.measured import report
from models.text.aspects import EMPTY_LINE
from models.text.templates import AnyTokenizer
from models.weights import store
from models.weights.loading import load as load_model
from trainer.data.dataset import TrainingPair
from trainer.data.pair_encoding import PairEncoder, review_tokens
from trainer.qlora import recipe as recipes
from trainer.qlora.distributed import init_processes
from trainer.qlora.llama import TrainableLlama
from trainer.qlora.run_setup import make_encoder, make_trainable, read_dataset

DRAWS = 10_000
_LINE = re.compile(r"[^\n]*\n+|[^\n]+")

#: Loss and number of an answer's item tokens, [paper, 2].
Counts = NDArray[np.float64]


def main() -> None:
    """Measure both adapters on both held-out splits."""
    options = _options()
    results: dict[str, Any] = {"draws": DRAWS, "counted": "item text, without headings and '<'"}
    for name in options.only:
        folder = options.adapters / name if options.adapters else None
        results[name] = measure(name, folder, options)
    report(results, options.json)
    for name in options.only:
        for split, values in results[name].items():
            print(f"{name} {split:10} {_sentence(values)}")


def measure(name: str, folder: Path | None, options: argparse.Namespace) -> dict[str, Any]:
    """One adapter's splits; without `folder` the adapter of the run of that name is taken."""
    recipe = recipes.load(Path(name))
    data = read_dataset(recipe, options.home)
    device = init_processes().device
    loaded = load_model(
        store.resolve(recipe.base, options.home),
        recipe.base,
        template=recipe.reviewer_config.template or "",
        device=device,
        attention="sdpa",
    )
    model, _ = make_trainable(recipe, loaded)
    encoder = make_encoder(recipe, loaded.tokenizer)
    pairs = {"validation": data.validation, "test": data.test}
    chosen = {split: each[: options.papers or None] for split, each in pairs.items()}
    # A fresh adapter changes nothing, so this is the bare model.
    without = {split: _counts(model, encoder, each) for split, each in chosen.items()}
    folder = folder or options.home / "training" / name / "adapter"
    tensors = load_file(folder / "adapter_model.safetensors")
    model.adapter.load({key: value.float() for key, value in tensors.items()})
    tuned = {split: _counts(model, encoder, each) for split, each in chosen.items()}
    return {split: compare(without[split], tuned[split]) for split in chosen}


def item_mask(tokenizer: AnyTokenizer, review: str) -> list[bool]:
    """For each token of an answer without its end token: does it belong to an item's text?"""
    mask: list[bool] = []
    end = 0
    for line in _LINE.findall(review):
        end += len(line)
        n_tokens = len(review_tokens(tokenizer, review[:end])) - len(mask)
        is_item = line.startswith("<") and line.rstrip("\n") != EMPTY_LINE
        mask += [is_item and place > 0 for place in range(n_tokens)]
    return mask


def compare(
    without: Counts, tuned: Counts, names: tuple[str, str] = ("untuned", "tuned")
) -> dict[str, Any]:
    """Mean losses of a token and their difference, each with a 95 % interval over papers."""
    draw = np.random.default_rng(0)
    rows = draw.integers(0, len(without), (DRAWS, len(without)))

    def means(counts: Counts) -> NDArray[np.float64]:
        drawn: Counts = counts[rows].sum(1)
        return drawn[:, 0] / drawn[:, 1]

    def mean(counts: Counts) -> float:
        return float(counts[:, 0].sum() / counts[:, 1].sum())

    before, after = means(without), means(tuned)
    return {
        "papers": len(without),
        "tokens": int(without[:, 1].sum()),
        names[0]: [mean(without), *_interval(before)],
        names[1]: [mean(tuned), *_interval(after)],
        "difference": [mean(tuned) - mean(without), *_interval(after - before)],
    }


def _counts(model: TrainableLlama, encoder: PairEncoder, pairs: Sequence[TrainingPair]) -> Counts:
    rows = []
    for pair in pairs:
        sample = encoder.encode(pair)
        losses = model.token_losses(sample).double().cpu().numpy()
        mask = np.array(item_mask(encoder.tokenizer, pair.review), dtype=np.bool_)
        counted = losses[:-1][mask[: len(losses) - 1]]
        rows.append((counted.sum(), len(counted)))
    return np.array(rows, dtype=np.float64)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _sentence(values: dict[str, Any]) -> str:
    parts = [
        f"{part} {values[part][0]:.4f} [{values[part][1]:.4f}, {values[part][2]:.4f}]"
        for part in ("untuned", "tuned", "difference")
    ]
    return f"{values['papers']:3} papers  {'  '.join(parts)}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="with models, datasets, training")
    parser.add_argument("--adapters", type=Path, help="folder of demo-7 and demo-4")
    parser.add_argument("--only", nargs="+", default=["demo-7", "demo-4"])
    parser.add_argument("--papers", type=int, default=0, help="of each split; 0 means all")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
