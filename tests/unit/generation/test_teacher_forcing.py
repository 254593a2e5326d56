"""Teacher forcing by the engine's decoder gives the scores of transformers' own forward pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.weights.loading import LoadedModel
from testing.small_models import write_tiny_llama
from testing.teacher_forcing import Reference, read_answers
from tests.engine_cases import load_exact, write_adapters

#: Answers of different lengths, the longest one neither first nor last.
SIZES = ((30, 5), (7, 12), (50, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama31"), "llama31")


def references() -> list[Reference]:
    draw = torch.Generator().manual_seed(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, 250, (n,), generator=draw).tolist())

    return [Reference(ids(prompt), ids(answer)) for prompt, answer in SIZES]


def losses(scores: Tensor, wanted: Tensor) -> Tensor:
    return cross_entropy(scores, wanted, reduction="none")


@torch.inference_mode()
def plain_losses(loaded: LoadedModel, reference: Reference) -> Tensor:
    ids = torch.tensor([reference.prompt + reference.answer[:-1]])
    scores = loaded.model(ids, logits_to_keep=len(reference.answer)).logits[0]
    return losses(scores, torch.tensor(reference.answer))


@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapter"])
def test_losses_are_those_of_the_forward_pass(adapted: bool, folder: Path, tmp_path: Path) -> None:
    plain, adapter = load_exact(folder), None
    if adapted:
        sha256, adapter = next(iter(write_adapters(folder, tmp_path).items()))
        plain.adapters.attach(adapter, sha256)
        plain.adapters.activate(sha256)
    wanted = [plain_losses(plain, reference) for reference in references()]
    steps = torch.stack(read_answers(load_exact(folder), references(), losses, adapter=adapter), 1)
    for row, each in enumerate(wanted):
        assert torch.allclose(steps[row, : len(each)], each, atol=1e-4)


def test_an_8_bit_cache_changes_losses_a_little(folder: Path) -> None:
    exact, rounded = (
        torch.stack(read_answers(load_exact(folder), references(), losses, kv_cache=kind), 1)[1]
        for kind in ("bf16", "fp8")
    )
    assert 0 < (exact - rounded).abs().max() < 0.2


def test_prompts_in_an_arithmetic_that_the_device_lacks_are_refused(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="no fp8 prompts"):
        read_answers(load_exact(folder), references(), losses, arithmetic="fp8")
