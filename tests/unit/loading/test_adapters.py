"""Adapters change the model while they are active, and only then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from errors import RequestRefused
from models.hashes import adapter_sha256
from models.weights.loading import LoadedModel
from testing.small_models import FAMILIES

Load = Callable[..., LoadedModel]


@pytest.fixture(scope="module")
def make_adapter(tiny_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    """Train nothing, but give an adapter weights that matter."""

    def make(
        seed: int, *, family: str = "llama31", dora: bool = False, trained_on: str = ""
    ) -> Path:
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(tiny_folders[family], dtype=torch.bfloat16)
        config = LoraConfig(r=4, target_modules="all-linear", use_dora=dora, task_type="CAUSAL_LM")
        adapted = get_peft_model(base, config)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        hub = trained_on or FAMILIES[family].base.hub
        adapted.peft_config["default"].base_model_name_or_path = hub
        folder = tmp_path_factory.mktemp("adapter")
        # `save_pretrained` would ask the hub whether the vocabulary was resized.
        adapted.save_pretrained(folder, save_embedding_layers=False)
        return folder

    return make


@torch.no_grad()
def scores(loaded: LoadedModel, sha256: str | None) -> torch.Tensor:
    loaded.adapters.activate(sha256)
    return loaded.model(torch.arange(40)[None]).logits


def attach(loaded: LoadedModel, folder: Path) -> str:
    sha256 = adapter_sha256(folder)
    loaded.adapters.attach(folder, sha256)
    return sha256


@pytest.mark.parametrize("weights", ["nf4", "bf16"])
def test_switching_adapters_changes_and_restores_the_model(
    weights: str, load_tiny: Load, make_adapter
) -> None:
    # Given a model with a LoRA and a DoRA adapter
    loaded = load_tiny("llama31", weights)
    alone = scores(loaded, None)
    lora = attach(loaded, make_adapter(1))
    dora = attach(loaded, make_adapter(2, dora=True))
    # When they are switched to and fro
    first, second = scores(loaded, lora), scores(loaded, dora)
    # Then each has its own say, and the base comes back to the last bit
    assert not torch.allclose(first, alone, atol=1e-2)
    assert not torch.allclose(second, alone, atol=1e-2)
    assert not torch.allclose(second, first, atol=1e-2)
    assert torch.equal(scores(loaded, lora), first)
    assert torch.equal(scores(loaded, None), alone)
    assert loaded.adapters.attached == {lora, dora}


def test_attaching_does_not_activate(load_tiny: Load, make_adapter) -> None:
    loaded = load_tiny("llama31")
    alone = scores(loaded, None)
    attach(loaded, make_adapter(1))
    with torch.no_grad():
        assert torch.equal(loaded.model(torch.arange(40)[None]).logits, alone)


def test_an_adapter_gives_the_same_scores_as_peft_itself(
    load_tiny: Load, make_adapter, tiny_folders: dict[str, Path]
) -> None:
    from peft import PeftModel

    folder = make_adapter(3)
    loaded, plain = load_tiny("llama31"), load_tiny("llama31")
    ours = scores(loaded, attach(loaded, folder))
    theirs = PeftModel.from_pretrained(plain.model, folder)
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(torch.arange(40)[None]).logits)


def refused(loaded: LoadedModel, folder: Path, sha256: str) -> str:
    """The sentence of the refusal; the model must be as it was."""
    before = scores(loaded, None)
    with pytest.raises(RequestRefused) as refusal:
        loaded.adapters.attach(folder, sha256)
    assert refusal.value.kind == "adapter"
    assert sha256 not in loaded.adapters.attached
    assert torch.equal(scores(loaded, None), before)
    return str(refusal.value)


def test_a_pickled_adapter_is_refused(load_tiny: Load, make_adapter) -> None:
    folder = make_adapter(1)
    tensors = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    torch.save(tensors, folder / "adapter_model.bin")
    assert "pickled" in refused(load_tiny("llama31"), folder, "0" * 64)


def test_a_broken_adapter_is_refused(load_tiny: Load, make_adapter) -> None:
    folder = make_adapter(1)
    (folder / "adapter_model.safetensors").write_bytes(b"not tensors")
    assert "cannot be read" in refused(load_tiny("llama31"), folder, adapter_sha256(folder))


def test_an_adapter_with_another_hash_is_refused(load_tiny: Load, make_adapter) -> None:
    assert "SHA-256" in refused(load_tiny("llama31"), make_adapter(1), "0" * 64)


def test_an_adapter_of_another_base_is_refused(load_tiny: Load, make_adapter) -> None:
    folder = make_adapter(1, trained_on="someone/else-8b")
    sentence = refused(load_tiny("llama31"), folder, adapter_sha256(folder))
    assert "someone/else-8b" in sentence


def test_an_adapter_of_another_shape_is_refused(load_tiny: Load, make_adapter) -> None:
    # Llama 2 has no grouped queries, so its key projections are wider.
    folder = make_adapter(1, family="llama2", trained_on=FAMILIES["llama31"].base.hub)
    sentence = refused(load_tiny("llama31"), folder, adapter_sha256(folder))
    assert "no place" in sentence


def test_an_adapter_that_lacks_tensors_is_refused(load_tiny: Load, make_adapter) -> None:
    folder = make_adapter(1)
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.popitem()
    save_file(tensors, folder / "adapter_model.safetensors")
    loaded = load_tiny("llama31")
    assert "lacks B.weight of model.layers.1.self_attn.v_proj" in refused(
        loaded, folder, adapter_sha256(folder)
    )
    # And a good one can still be attached.
    attach(loaded, make_adapter(2))


def test_an_adapter_with_numbers_that_are_not_finite_is_refused(
    load_tiny: Load, make_adapter
) -> None:
    folder = make_adapter(1)
    tensors = load_file(folder / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, folder / "adapter_model.safetensors")
    assert "not finite" in refused(load_tiny("llama31"), folder, adapter_sha256(folder))


def test_an_adapter_of_another_kind_is_refused(load_tiny: Load, make_adapter) -> None:
    folder = make_adapter(1)
    hub = FAMILIES["llama31"].base.hub
    fields = {"peft_type": "IA3", "task_type": "CAUSAL_LM", "base_model_name_or_path": hub}
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    assert "neither LoRA nor DoRA" in refused(load_tiny("llama31"), folder, adapter_sha256(folder))


def test_an_adapter_that_is_not_attached_cannot_be_activated(load_tiny: Load) -> None:
    with pytest.raises(RequestRefused, match="not attached"):
        load_tiny("llama31").adapters.activate("0" * 64)
