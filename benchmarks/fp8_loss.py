"""Loss of people's merged reviews in FP8 and in exact arithmetic, teacher-forced.

All papers are read at the same time by the engine's own prefill and decode steps. Counted is the
text of items: the grammar writes headings and empty markers whatever the model's scores are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from benchmarks import fp8_papers
from benchmarks.fp8_papers import ReviewedPaper
from benchmarks.small_model import Counts, compare, item_mask
from models.kernels.device_support import Precision
from models.kernels.paged_cache import CacheKind
from models.text.generation import Arithmetic
from models.weights.loading import LoadedModel, default_device
from models.weights.store import load_tokenizer
from testing.small_models import small_model_folder
from testing.teacher_forcing import Reference, read_answers

#: Tokens of prompts and reviews where this is tried without a GPU.
TINY_PROMPT, TINY_REVIEW = 200, 40
FLOAT32 = Precision(torch.float32, "the reference")


@dataclass(frozen=True)
class Mode:
    """How prompts and the cache are computed; None is the device's own precision."""

    kv_cache: CacheKind = "bf16"
    arithmetic: Arithmetic = "exact"
    precision: Precision | None = None
    #: Read each review after the next paper's prompt: what a paper is worth at all.
    other_prompts: bool = False


#: What the others are compared with; both are always measured.
EXACT, REFERENCE = "exact", "float32"
#: transformers' own model with the weights as they were published, in float32.
UNQUANTISED = "unquantised float32"
MODES = {
    REFERENCE: Mode(precision=FLOAT32),
    EXACT: Mode(),
    "fp8 cache": Mode(kv_cache="fp8"),
    "fp8 prompts": Mode(arithmetic="fp8"),
    "both": Mode(kv_cache="fp8", arithmetic="fp8"),
    "another paper": Mode(other_prompts=True),
}
NAMES = (*MODES, UNQUANTISED)


@dataclass(frozen=True)
class Sample:
    """A prompt, the review, and which of the review's tokens are counted."""

    reference: Reference
    counted: NDArray[np.bool_]


@dataclass(frozen=True)
class Scored:
    """Losses float64 and most likely tokens int64 of the counted positions, an array a paper."""

    losses: list[NDArray[np.float64]]
    best: list[NDArray[np.int64]]

    @property
    def counts(self) -> Counts:
        """Loss and number of tokens, [paper, 2]."""
        return np.array([(each.sum(), len(each)) for each in self.losses], dtype=np.float64)


def measure(
    papers: Sequence[ReviewedPaper],
    adapter: Path,
    names: Sequence[str],
    *,
    processes: int = 1,
    tiny: bool = False,
) -> dict[str, Any]:
    """Score the reviews in each mode named, and compare; `tiny` as in `make_sample`.

    Modes are scored in processes of their own, so many at a time: a step starts more kernels than
    one process can keep a GPU busy with.
    """
    tokenizer = load_tokenizer(small_model_folder())
    every = [make_sample(tokenizer, paper, tiny=tiny) for paper in papers]
    # The start of a review, if tiny, may be headings only.
    samples = [sample for sample in every if sample.counted.any()]
    wanted = list(dict.fromkeys((REFERENCE, EXACT, *names)))
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        every_mode = pool.map(partial(score, samples=samples, adapter=adapter), wanted)
        scored = dict(zip(wanted, every_mode, strict=True))
    return {"counted": "item text, without headings and '<'", **comparisons(scored)}


def make_sample(tokenizer: Tokenizer, paper: ReviewedPaper, *, tiny: bool = False) -> Sample:
    """Tokenise a paper and its review as in training.

    `tiny` keeps the end of the prompt and the start of the review, to try this without a GPU.
    """
    encoded = fp8_papers.pair_encoder(tokenizer).encode(paper.pair)
    prompt, review = encoded.prompt_ids, encoded.response_ids
    counted = [*item_mask(tokenizer, paper.review)[: len(review) - 1], False]
    if tiny:
        prompt, review = prompt[-TINY_PROMPT:], review[:TINY_REVIEW]
    return Sample(Reference(prompt, review), np.array(counted[: len(review)], dtype=np.bool_))


def score(name: str, samples: Sequence[Sample], adapter: Path) -> Scored:
    """Read every sample's review after its prompt in one mode."""
    references = [sample.reference for sample in samples]
    if name == UNQUANTISED:
        kept = _plain_results(references, adapter)
    else:
        mode = MODES[name]
        if mode.other_prompts:
            references = with_next_prompts(references)
        kept = _engine_results(fp8_papers.load_small(mode.precision), mode, references, adapter)
    print(f"{name}: done", flush=True)
    pairs = list(zip(kept, samples, strict=True))
    return Scored(
        [each.losses[sample.counted] for each, sample in pairs],
        [each.best[sample.counted] for each, sample in pairs],
    )


def with_next_prompts(references: Sequence[Reference]) -> list[Reference]:
    """The same answers, each after the prompt of the next one."""
    following = [*references[1:], references[0]]
    return [
        replace(each, prompt=other.prompt)
        for each, other in zip(references, following, strict=True)
    ]


@dataclass(frozen=True)
class _AnswerResult:
    """Losses and most likely tokens of an answer, [token]."""

    losses: NDArray[np.float64]
    best: NDArray[np.int64]

    @classmethod
    def of(cls, losses: Tensor, best: Tensor) -> _AnswerResult:
        return cls(losses.double().cpu().numpy(), best.cpu().numpy())


def _engine_results(
    loaded: LoadedModel, mode: Mode, references: Sequence[Reference], adapter: Path
) -> list[_AnswerResult]:
    steps = read_answers(
        loaded,
        references,
        lambda scores, wanted: (_losses(scores, wanted), scores.argmax(-1)),
        adapter=adapter,
        kv_cache=mode.kv_cache,
        arithmetic=mode.arithmetic,
    )
    losses, best = (torch.stack(each, dim=1) for each in zip(*steps, strict=True))
    return [
        _AnswerResult.of(losses[row, : len(each.answer)], best[row, : len(each.answer)])
        for row, each in enumerate(references)
    ]


@torch.inference_mode()
def _plain_results(references: Sequence[Reference], adapter: Path) -> list[_AnswerResult]:
    model = AutoModelForCausalLM.from_pretrained(small_model_folder(), dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).merge_and_unload().to(default_device()).eval()
    results = []
    for reference in references:
        ids = torch.tensor([[*reference.prompt, *reference.answer[:-1]]], device=model.device)
        scores = model(ids, logits_to_keep=len(reference.answer)).logits[0]
        wanted = torch.tensor(reference.answer, device=model.device)
        results.append(_AnswerResult.of(_losses(scores, wanted), scores.argmax(-1)))
    return results


def _losses(scores: Tensor, wanted: Tensor) -> Tensor:
    return cross_entropy(scores, wanted, reduction="none")


def comparisons(scored: Mapping[str, Scored]) -> dict[str, Any]:
    """Losses with 95 % intervals over papers, and shares of positions with another best token."""
    exact = scored[EXACT].counts
    results: dict[str, Any] = {"papers": len(exact), "positions": int(exact[:, 1].sum())}
    for name, each in scored.items():
        counts = each.counts
        result: dict[str, Any] = {"loss": counts[:, 0].sum() / counts[:, 1].sum()}
        if name != EXACT:
            found = compare(exact, counts, names=(EXACT, "loss"))
            result["difference"] = found["difference"]
            result["difference_in_percent"] = [
                100 * value / found[EXACT][0] for value in found["difference"]
            ]
        for other in (REFERENCE, EXACT):
            if other != name:
                result[f"another_best_token_than_{other}"] = changed_share(each, scored[other])
        result["losses_of_papers"] = [round(loss / n, 5) for loss, n in counts.tolist()]
        results[name] = result
    return results


def changed_share(a: Scored, b: Scored) -> float:
    """Share of the counted positions at which another token is the most likely one."""
    return float((np.concatenate(a.best) != np.concatenate(b.best)).mean())
