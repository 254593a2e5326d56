"""What loading promises of each Llama family."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit

from errors import MissingPart, UserError
from models.kernels.device_support import Precision, choose_precision
from models.weights.loading import LoadedModel, Weights, load
from testing.small_models import FAMILIES, write_tiny_llama

Load = Callable[..., LoadedModel]
CPU = torch.device("cpu")


@torch.no_grad()
def logits(loaded: LoadedModel, length: int = 48) -> torch.Tensor:
    return loaded.model(torch.arange(length)[None]).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_linear_layers_are_nf4_doubly_quantised_and_the_rest_is_not(
    family: str, load_tiny: Load
) -> None:
    model = load_tiny(family).model
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            state = getattr(module.weight, "quant_state", None)
            quantised = state is not None and state.quant_type == "nf4" and state.nested
            assert quantised == (name != "lm_head"), name
    assert model.get_input_embeddings().weight.dtype == choose_precision(CPU).dtype


@pytest.mark.parametrize("family", FAMILIES)
def test_dequantised_weights_are_the_same_model(family: str, load_tiny: Load) -> None:
    nf4, dequantised = load_tiny(family), load_tiny(family, "bf16")
    # Compared by weight: a CPU with bfloat16 instructions multiplies NF4 in a kernel of its own.
    layers = [each for each in nf4.model.modules() if isinstance(each, Linear4bit)]
    plain = [each for each in dequantised.model.modules() if type(each) is torch.nn.Linear]
    assert len(plain) == len(layers) + 1  # and the LM head
    for layer, dense in zip(layers, plain, strict=False):
        exact = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        assert torch.equal(dense.weight, exact.to(dense.weight.dtype))
    # And it is not the model before quantisation.
    assert nf4.versions["weights_sha256"] == dequantised.versions["weights_sha256"]
    assert (nf4.versions["weights"], dequantised.versions["weights"]) == ("nf4", "bf16")


@pytest.mark.parametrize("weights", ["nf4", "bf16"])
def test_bfloat16_computing_stays_close_to_float32(
    weights: Weights, tiny_folders: dict[str, Path]
) -> None:
    family = FAMILIES["llama31"]
    by_dtype = {
        dtype: load(
            tiny_folders["llama31"],
            family.base,
            template=family.template,
            weights=weights,
            device=CPU,
            precision=Precision(dtype, "for the test"),
        )
        for dtype in (torch.bfloat16, torch.float32)
    }
    rough, exact = (logits(loaded).float() for loaded in by_dtype.values())
    assert (rough - exact).abs().mean() < 0.02 * exact.std()


def test_llama_2_is_stretched_to_12k(load_tiny: Load) -> None:
    loaded = load_tiny("llama2")
    plain = 1.0 / 10000.0 ** (torch.arange(0, 16, 2) / 16)
    torch.testing.assert_close(loaded.model.model.rotary_emb.inv_freq, plain / 3)
    assert loaded.max_context == loaded.model.config.max_position_embeddings == 12288


def test_llama_31_keeps_its_own_rope_scaling(load_tiny: Load) -> None:
    scaled = load_tiny("llama31").model.model.rotary_emb.inv_freq
    plain = load_tiny("llama3").model.model.rotary_emb.inv_freq
    # High frequencies stay, low ones are divided by 8: the definition of `llama3` scaling.
    torch.testing.assert_close(scaled[0], plain[0])
    torch.testing.assert_close(scaled[-1], plain[-1] / 8)


def test_the_checkpoints_sampling_defaults_are_dropped(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path, "llama31")
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "do_sample": true}')
    family = FAMILIES["llama31"]
    loaded = load(folder, family.base, template=family.template, device=CPU)
    assert not loaded.model.generation_config.do_sample
    assert loaded.model.generation_config.temperature is None


def test_a_template_of_another_model_is_refused(tiny_folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="chatml"):
        load(tiny_folders["llama31"], FAMILIES["llama31"].base, template="chatml", device=CPU)


def test_weights_that_do_not_load_are_a_missing_part(
    tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    # Given a folder whose only weights are a pickle
    folder = shutil.copytree(tiny_folders["llama3"], tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    family = FAMILIES["llama3"]
    with pytest.raises(MissingPart, match="do not load"):
        load(folder, family.base, template=family.template, device=CPU)


def test_versions_name_what_makes_a_review_reproducible(load_tiny: Load) -> None:
    versions = load_tiny("llama31").versions
    libraries = {"torch", "transformers", "bitsandbytes", "peft", "tokenizers"}
    choices = {"base", "weights", "weights_sha256", "compute", "attention", "device", "fused"}
    assert set(versions) == libraries | choices
    assert versions["transformers"] == "5.17.0"


def test_loading_twice_gives_equal_scores(load_tiny: Load) -> None:
    assert torch.equal(logits(load_tiny("llama3")), logits(load_tiny("llama3")))


def test_the_base_configuration_decides_the_context(tiny_folders: dict[str, Path]) -> None:
    family = FAMILIES["llama3"]
    short = replace(family.base, max_context=512)
    loaded = load(tiny_folders["llama3"], short, template=family.template, device=CPU)
    assert loaded.max_context == 512
