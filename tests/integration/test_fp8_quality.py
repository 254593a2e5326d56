"""The measurement of what FP8 changes: the engine's losses are those of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy

from benchmarks.fp8_quality import MODES, Sample, Scored, comparisons, score
from testing.small_models import write_tiny_llama
from tests.engine_cases import load_exact, write_adapters


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    draw = torch.Generator().manual_seed(0)

    def ids(n: int) -> list[int]:
        return torch.randint(1, 200, (n,), generator=draw).tolist()

    return [
        Sample("test", ids(n_prompt), ids(n_review), [True] * (n_review - 1) + [False])
        for n_prompt, n_review in ((40, 9), (300, 23), (7, 1))
    ]


def test_losses_are_those_of_a_plain_forward_pass(samples: list[Sample], tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model", "llama31")
    adapter = next(iter(write_adapters(folder, tmp_path / "adapters").values()))
    found = score(load_exact(folder, weights="bf16"), MODES["exact"], samples, adapter)
    plain = PeftModel.from_pretrained(load_exact(folder, weights="bf16").model, adapter).eval()
    for sample, losses, best in zip(samples, found.losses, found.best, strict=True):
        with torch.inference_mode():
            ids = torch.tensor([[*sample.prompt, *sample.review]])
            scores = plain(ids).logits[0, len(sample.prompt) - 1 : -1].float()
        wanted = cross_entropy(scores, torch.tensor(sample.review), reduction="none")
        torch.testing.assert_close(torch.tensor(losses), wanted, rtol=1e-4, atol=1e-4)
        assert best == scores.argmax(-1).tolist()


def test_modes_are_compared_over_papers(samples: list[Sample]) -> None:
    def scored(extra: float, best: int) -> Scored:
        return Scored(
            [[1.0 + extra] * len(sample.review) for sample in samples],
            [[best] * len(sample.review) for sample in samples],
        )

    samples = samples[:2]
    found = comparisons({"exact": scored(0.0, 1), "both": scored(0.01, 2)}, samples)
    assert found["tokens"] == 8 + 22
    assert found["both"]["difference_in_percent"] == pytest.approx([1.0, 1.0, 1.0])
    assert found["both"]["another_best_token_than_exact"] == 1.0
