"""Adapters are added to the weights for long prompts and to the results for short ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from errors import RequestRefused
from models.adapters import adapter_bank
from models.adapters.adapter_bank import AdapterBank
from models.hashes import adapter_sha256
from models.kernels.nf4_product import LowRank
from models.weights.loading import LoadedModel
from testing.small_models import write_tiny_llama
from tests.engine_cases import LLAMA31, load_exact, write_adapters

#: Tokens for which the one or the other is cheaper, in layers of width 128 and 256.
SHORT, LONG = 40, 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama31"), "llama31")


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_adapters(folder, tmp_path_factory.mktemp("adapters"))


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The layers whose weights an adapter was added to."""
    layers: list[nn.Module] = []

    def noted(linear: nn.Module, added: LowRank) -> Tensor | None:
        layers.append(linear)
        return adapter_bank_sum(linear, added)

    adapter_bank_sum: Callable[..., Tensor | None] = adapter_bank.merged_weights
    monkeypatch.setattr(adapter_bank, "merged_weights", noted)
    return layers


def bank_of(loaded: LoadedModel, adapters: dict[str, Path]) -> AdapterBank:
    bank = AdapterBank(loaded.model, LLAMA31.base, 1)
    for sha256, path in adapters.items():
        bank.attach(path, sha256)
    return bank


def scores(model: Any, n_tokens: int) -> Tensor:
    ids = torch.arange(n_tokens)[None] % 250
    result: Tensor = model(ids).logits
    return result


@torch.inference_mode()
def test_a_long_prompts_adapter_is_added_to_the_weights_and_gives_the_same(
    folder: Path, adapters: dict[str, Path], summed: list[nn.Module]
) -> None:
    loaded = load_exact(folder, weights="bf16")
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    bank = bank_of(loaded, adapters)
    for sha256 in adapters:
        with bank.for_prompt(sha256):
            short = scores(loaded.model, SHORT)
            assert not summed
            long = scores(loaded.model, LONG)
            assert summed
            bank._selection.span = None
            by_results = scores(loaded.model, LONG)
        torch.testing.assert_close(long, by_results, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(long[:, :SHORT], short, rtol=1e-4, atol=1e-4)
        summed.clear()
    after = {name.replace("base_layer.", ""): t for name, t in loaded.model.state_dict().items()}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@torch.inference_mode()
def test_adapter_is_not_merged_into_four_bit_weights_without_our_product(
    folder: Path, adapters: dict[str, Path]
) -> None:
    loaded = load_exact(folder, weights="nf4")
    bank = bank_of(loaded, adapters)
    for sha256 in adapters:
        with bank.for_prompt(sha256):
            long, short = scores(loaded.model, LONG), scores(loaded.model, SHORT)
        torch.testing.assert_close(long[:, :SHORT], short, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("attached_before", [0, 1])
@torch.inference_mode()
def test_bank_is_consistent_after_attaching_runs_out_of_memory(
    folder: Path,
    adapters: dict[str, Path],
    attached_before: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a row with an adapter, or none yet, and a second adapter for which memory runs out
    loaded = load_exact(folder)
    *before, (another, path) = list(adapters.items())[: attached_before + 1]
    bank = bank_of(loaded, dict(before))
    used = before[0][0] if before else None
    with bank.for_prompt(used):
        wanted = scores(loaded.model, SHORT)
    lay_out, laid_out = bank._rebuild_group, []

    def run_out(paths: Sequence[str]) -> None:
        laid_out.append(paths)
        if len(laid_out) == 3:
            raise torch.OutOfMemoryError("scripted")
        lay_out(paths)

    monkeypatch.setattr(bank, "_rebuild_group", run_out)
    with pytest.raises(torch.OutOfMemoryError):
        bank.attach(path, another)
    # When the engine starts again
    bank.reset_rows()
    # Then the others are as they were, and the second can be attached
    assert another not in bank
    with bank.for_prompt(used):
        assert torch.equal(scores(loaded.model, SHORT), wanted)
    bank.attach(path, another)
    with bank.for_prompt(another):
        changed = scores(loaded.model, SHORT)
    assert (changed - wanted).abs().max() > 0.01
    bank.select(0, another)
    with bank.for_rows(1):
        torch.testing.assert_close(scores(loaded.model, 1), changed[:, :1], rtol=1e-3, atol=1e-3)


def test_an_adapter_whose_matrices_differ_in_rank_is_refused_and_leaves_no_trace(
    folder: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    bank = bank_of(load_exact(folder), {})
    odd = shutil.copytree(next(iter(adapters.values())), tmp_path / "odd")
    tensors = load_file(odd / "adapter_model.safetensors")
    name = next(name for name in tensors if "lora_B" in name)
    tensors[name] = torch.cat([tensors[name]] * 2, dim=1)
    for content, reason in ((tensors, "differ in rank"), ({}, "no matrices")):
        save_file(content, odd / "adapter_model.safetensors")
        sha256 = adapter_sha256(odd)
        with pytest.raises(RequestRefused, match=reason):
            bank.attach(odd, sha256)
        assert sha256 not in bank
        bank.select(0, None)
