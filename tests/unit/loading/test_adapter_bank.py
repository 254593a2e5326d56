"""Adapters are added to the weights for long prompts and to the results for short ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from errors import RequestRefused
from models.adapters import adapter_bank
from models.adapters.adapter_bank import AdapterBank
from models.adapters.adapter_package import check_package
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


def written(base_folder: Path, folder: Path, init: bool | str = False, **options: Any) -> Path:
    """An adapter as PEFT saves it, with random matrices."""
    torch.manual_seed(3)
    base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", r=6, init_lora_weights=init, **options)
    adapted = get_peft_model(base, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.peft_config["default"].base_model_name_or_path = LLAMA31.base.hub
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": "all-linear", "lora_alpha": 5},
        {"target_modules": ["k_proj", "up_proj"], "use_rslora": True, "lora_alpha": 3},
        {"target_modules": "all-linear", "use_dora": True, "lora_alpha": 4},
        {"target_modules": ["v_proj"], "use_dora": True, "use_rslora": True, "lora_alpha": 2},
        {"target_modules": ["q_proj"], "layers_to_transform": [1], "lora_alpha": 9},
        {"target_modules": r".*\.(gate|down)_proj", "init": "gaussian", "lora_alpha": -7},
        {"target_modules": ["o_proj"], "init": "orthogonal", "lora_alpha": 0.5},
    ],
    ids=["lora", "rslora", "dora", "dora rslora", "one layer", "expression", "orthogonal"],
)
@torch.inference_mode()
def test_accepted_adapter_gives_the_scores_of_peft(
    options: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    with torch.inference_mode(False):
        adapter = written(folder, tmp_path / "adapter", **options)
    check_package(adapter)
    loaded = load_exact(folder, weights="bf16")
    plain, sha256 = scores(loaded.model, SHORT), adapter_sha256(adapter)
    base = load_exact(folder, weights="bf16").model
    wanted = scores(PeftModel.from_pretrained(base, str(adapter)), SHORT)

    bank = bank_of(loaded, {sha256: adapter})

    with bank.for_prompt(sha256):
        torch.testing.assert_close(scores(loaded.model, SHORT), wanted, rtol=1e-4, atol=1e-4)
    assert (wanted - plain).abs().max() > 0.01


def test_adapter_that_lacks_the_last_layer_is_refused(folder: Path, tmp_path: Path) -> None:
    adapter = written(folder, tmp_path / "adapter", target_modules=["q_proj"])
    tensors = load_file(adapter / "adapter_model.safetensors")
    last = max(int(name.split(".layers.")[1].split(".")[0]) for name in tensors)
    kept = {name: tensor for name, tensor in tensors.items() if f".layers.{last}." not in name}
    save_file(kept, adapter / "adapter_model.safetensors")

    with pytest.raises(RequestRefused, match=rf"it lacks model.layers.{last}.self_attn.q_proj"):
        bank_of(load_exact(folder), {adapter_sha256(adapter): adapter})


def test_an_adapter_whose_matrices_differ_in_rank_is_refused_and_leaves_no_trace(
    folder: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    bank = bank_of(load_exact(folder), {})
    odd = shutil.copytree(next(iter(adapters.values())), tmp_path / "odd")
    tensors = load_file(odd / "adapter_model.safetensors")
    name = next(name for name in tensors if "lora_B" in name)
    tensors[name] = torch.cat([tensors[name]] * 2, dim=1)
    for content, reason in ((tensors, "differ in rank"), ({}, "holds no tensors")):
        save_file(content, odd / "adapter_model.safetensors")
        sha256 = adapter_sha256(odd)
        with pytest.raises(RequestRefused, match=reason):
            bank.attach(odd, sha256)
        assert sha256 not in bank
        bank.select(0, None)
