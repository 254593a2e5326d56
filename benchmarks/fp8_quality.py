"""What FP8 prompts and an 8-bit cache change, on people's reviews of papers and layer by layer.

`pack` tokenises the validation and test papers of the data set demo-7, with their merged human
reviews. `loss` reads each review token by token after its paper with the engine's own prefill and
decode steps, and compares the loss of the items' text and the most likely tokens of four ways to
compute it with float32. `layers` compares the hidden states of a prompt with those of unquantised
weights in float32. Papers are counted and never printed.
"""

from __future__ import annotations

import argparse
import json
import lzma
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.measured import report
from benchmarks.small_model import compare, item_mask
from models.adapters.adapter_bank import AdapterBank
from models.engines.decoder import CausalModel, Decoder
from models.grammar.token_tables import GrammarTables
from models.hashes import adapter_sha256
from models.kernels.attention_selection import select_attention
from models.kernels.device_support import Precision, choose_precision
from models.kernels.paged_attention import ATTENTION
from models.kernels.paged_cache import CacheKind, CacheShape, PagedCache
from models.kernels.prompt_arithmetic import PromptArithmetic
from models.text.aspects import SEVEN
from models.text.generation import Arithmetic, GenerationRequest
from models.text.reviewer import builtin
from models.text.reviewer import load as load_reviewer
from models.weights.loading import LoadedModel, default_device, load
from resources import package_folder
from testing.small_models import small_model_folder
from trainer.qlora import recipe as recipes
from trainer.qlora.run_setup import make_encoder, read_dataset

REVIEWER = load_reviewer(builtin()["demo-7"])
#: Prompts whose hidden states are compared.
LAYER_PROMPTS = 8
#: Tokens of a prompt that are used where a machine without a GPU tries the program out.
CPU_PROMPT_TOKENS = 200


@dataclass(frozen=True)
class Sample:
    """A paper's prompt and people's merged review; `counted` marks the items' text."""

    split: str
    prompt: list[int]
    review: list[int]
    counted: list[bool]


@dataclass(frozen=True)
class Mode:
    """How prompts and the cache are computed."""

    kv_cache: CacheKind
    arithmetic: Arithmetic
    precision: Precision | None = None


#: The first is what the others are compared with.
MODES = {
    "float32": Mode("bf16", "exact", Precision(torch.float32, "the reference")),
    "exact": Mode("bf16", "exact"),
    "fp8 cache": Mode("fp8", "exact"),
    "fp8 prompts": Mode("bf16", "fp8"),
    "both": Mode("fp8", "fp8"),
}


@dataclass(frozen=True)
class Scored:
    """Losses and most likely tokens of every sample's review, [sample][token]."""

    losses: list[list[float]]
    best: list[list[int]]


def main() -> None:
    """Do what is asked for."""
    options = _options()
    {"pack": pack, "loss": measure_loss, "layers": measure_layers}[options.act](options)


def pack(options: argparse.Namespace) -> None:
    """Write the samples to `--samples`, compressed; they hold papers and must stay private."""
    recipe = recipes.load(Path("demo-7"))
    data = read_dataset(recipe, options.home)
    loaded = _load_small(MODES["exact"])
    encoder = make_encoder(recipe, loaded.tokenizer)
    samples = []
    for split, pairs in (("validation", data.validation), ("test", data.test)):
        for pair in pairs:
            ids = encoder.encode(pair)
            review = list(ids.response_ids)
            mask = item_mask(loaded.tokenizer, pair.review)[: len(review) - 1]
            samples.append(Sample(split, list(ids.prompt_ids), review, [*mask, False]))
    text = json.dumps([asdict(sample) for sample in samples], separators=(",", ":"))
    options.samples.write_bytes(lzma.compress(text.encode()))
    print(f"{len(samples)} samples, {options.samples.stat().st_size:,} bytes")


def read_samples(path: Path) -> list[Sample]:
    """Read what `pack` has written; without a GPU only the ends of the prompts."""
    samples = [Sample(**each) for each in json.loads(lzma.decompress(path.read_bytes()))]
    if torch.cuda.is_available():
        return samples
    return [replace(sample, prompt=sample.prompt[-CPU_PROMPT_TOKENS:]) for sample in samples]


def measure_loss(options: argparse.Namespace) -> None:
    """Score all samples in each mode and compare."""
    samples = read_samples(options.samples)[: options.papers or None]
    scored = {}
    for name, mode in MODES.items():
        if name in options.only:
            scored[name] = score(_load_small(mode), mode, samples, options.adapter)
            print(name, f"{np.mean(_counts(scored[name], samples).sum(0)[0]):.1f}", flush=True)
    report(comparisons(scored, samples), options.json)


def comparisons(scored: dict[str, Scored], samples: Sequence[Sample]) -> dict[str, Any]:
    """Losses with intervals over papers, and shares of positions with another best token."""
    exact = _counts(scored["exact"], samples)
    results: dict[str, Any] = {"papers": len(samples), "tokens": int(exact[:, 1].sum())}
    for name, each in scored.items():
        result: dict[str, Any] = {}
        if name != "exact":
            result = compare(exact, _counts(each, samples), names=("exact", name))
            loss, *interval = result["difference"]
            base = result["exact"][0]
            result["difference_in_percent"] = [100 * x / base for x in (loss, *interval)]
        for other in ("float32", "exact"):
            if other in scored and other != name:
                result[f"another_best_token_than_{other}"] = _changed(each, scored[other])
        results[name] = result
    return results


@torch.inference_mode()
def score(loaded: LoadedModel, mode: Mode, samples: Sequence[Sample], adapter: Path) -> Scored:
    """Read every sample's review after its prompt, all at the same time, with an adapter."""
    decoder = _teacher(loaded, mode, samples)
    sha256 = adapter_sha256(adapter)
    decoder.bank.attach(adapter, sha256)
    for slot, sample in enumerate(samples):
        assert decoder.cache.reserve(slot, len(sample.prompt) + len(sample.review))
        request = GenerationRequest(
            id=str(slot),
            token_ids=tuple(sample.prompt),
            max_prompt_tokens=len(sample.prompt),
            max_new_tokens=len(sample.review),
            temperature=0.0,
            arithmetic=mode.arithmetic,
        )
        decoder.prefill(slot, request, request.token_ids, sha256)
    for _ in range(max(len(sample.review) for sample in samples)):
        decoder.step(len(samples))
    return decoder.scored()


class TeacherForcedDecoder(Decoder):
    """Continues every row with its review, and keeps the losses and the most likely tokens."""

    def __init__(
        self, reviews: Tensor, lengths: Tensor, bank: AdapterBank, cache: PagedCache, **named: Any
    ) -> None:
        """`reviews` int64 [row, token], padded; `lengths` int64 [row] are their tokens."""
        super().__init__(cache=cache, bank=bank, graphs=False, forced_runs=False, **named)
        self.bank, self.cache = bank, cache
        self._reviews, self._review_lengths = reviews, lengths
        self._kept: list[tuple[Tensor, Tensor]] = []

    def scored(self) -> Scored:
        """What was kept of each row's review."""
        lengths = self._review_lengths.tolist()
        losses, best = (torch.stack(each).T.tolist() for each in zip(*self._kept, strict=True))
        return Scored(
            [row[:n] for row, n in zip(losses, lengths, strict=True)],
            [row[:n] for row, n in zip(best, lengths, strict=True)],
        )

    def _sample(self, step: Any, scores: Tensor) -> None:
        rows = slice(0, step.size)
        wanted = self._reviews[rows, len(self._kept)]
        losses = torch.nn.functional.cross_entropy(scores, wanted, reduction="none")
        self._kept.append((losses, scores.argmax(-1)))
        self._token[rows] = wanted
        self._length[rows] += self._live[rows]
        self._live[rows] &= self._review_lengths[rows] > len(self._kept)


def _teacher(loaded: LoadedModel, mode: Mode, samples: Sequence[Sample]) -> TeacherForcedDecoder:
    longest = max(len(sample.prompt) + len(sample.review) for sample in samples)
    shape = CacheShape.of(loaded.model, mode.kv_cache)
    selected = select_attention(shape, loaded.model.config.num_attention_heads)
    loaded.model.set_attn_implementation(ATTENTION)
    block_tokens = selected.step.block_tokens or longest
    cache = PagedCache(
        shape,
        n_blocks=len(samples) * -(-longest // block_tokens),
        block_tokens=block_tokens,
        slots=len(samples),
        max_tokens=longest,
    )
    lengths = [len(sample.review) for sample in samples]
    reviews = [[*s.review, *[0] * (max(lengths) - len(s.review))] for s in samples]
    end_id = loaded.template.end_of_turn_id(loaded.tokenizer)
    return TeacherForcedDecoder(
        torch.tensor(reviews, device=loaded.device),
        torch.tensor(lengths, device=loaded.device),
        bank=AdapterBank(loaded.model, loaded.base, len(samples)),
        cache=cache,
        model=CausalModel(loaded.model),
        tables=GrammarTables.build(loaded.tokenizer, (SEVEN,), end_id, loaded.device),
        attention=selected,
        arithmetic=PromptArithmetic(loaded.model),
    )


def _load_small(mode: Mode) -> LoadedModel:
    assert REVIEWER.base is not None
    return load(
        small_model_folder(),
        REVIEWER.base,
        template=REVIEWER.template or "",
        device=default_device(),
        attention="sdpa",
        precision=mode.precision,
    )


def _counts(scored: Scored, samples: Sequence[Sample]) -> Any:
    """Loss and number of the items' tokens, [paper, 2]."""
    rows = []
    for losses, sample in zip(scored.losses, samples, strict=True):
        counted = np.array(losses)[np.array(sample.counted)]
        rows.append((counted.sum(), len(counted)))
    return np.array(rows, dtype=np.float64)


def _changed(scored: Scored, other: Scored) -> float:
    """Share of all positions at which another token is the most likely one."""
    pairs = zip(scored.best, other.best, strict=True)
    changed = [a != b for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True)]
    return sum(changed) / len(changed)


@torch.inference_mode()
def measure_layers(options: argparse.Namespace) -> None:
    """Errors of every layer's output in each arithmetic, relative to the norm."""
    samples = read_samples(options.samples)[:LAYER_PROMPTS]
    folder = small_model_folder()
    exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(default_device())
    wanted = _hidden_states(exact, samples)
    del exact
    results: dict[str, Any] = {"prompts": len(samples)}
    for name in ("float32", "exact", "fp8 prompts"):
        mode = MODES[name]
        model = _load_small(replace(mode, precision=mode.precision or _default_precision())).model
        arithmetic = PromptArithmetic(model)
        with arithmetic.use(arithmetic.choose(mode.arithmetic)):
            found = _hidden_states(model, samples)
        label = {"float32": "NF4 weights in float32", "exact": "NF4 weights in bf16"}.get(name)
        results[label or "NF4 weights, prompts in FP8"] = [
            round(float((f - w).norm() / w.norm()), 5) for f, w in zip(found, wanted, strict=True)
        ]
    report(results, options.json)


def _default_precision() -> Precision:
    return choose_precision(default_device())


def _hidden_states(model: Any, samples: Sequence[Sample]) -> list[Tensor]:
    """The outputs of all layers and of the last norm for all prompts, float32 on the CPU."""
    parts: list[list[Tensor]] = []
    for sample in samples:
        ids = torch.tensor([sample.prompt], device=model.device)
        with _recorded([*model.model.layers, model.model.norm]) as outputs:
            model.model(ids, use_cache=False)
        parts.append(outputs)
    return [torch.cat(each, dim=1) for each in zip(*parts, strict=True)]


@contextmanager
def _recorded(modules: Sequence[torch.nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what modules return in a forward pass."""
    outputs: list[Tensor] = []

    def keep(_module: Any, _given: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        outputs.append(tensor.float().cpu())

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("act", choices=("pack", "loss", "layers"))
    parser.add_argument("--samples", type=Path, required=True, help="file of the packed papers")
    parser.add_argument("--home", type=Path, help="pack: with the data set demo-7")
    parser.add_argument(
        "--adapter", type=Path, default=package_folder("adapters") / "demo-7", help="loss: whose"
    )
    parser.add_argument("--only", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--papers", type=int, default=0, help="loss: 0 means all")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
