"""Loading and the reference engine on an NVIDIA GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.engines.generate import GenerateEngine
from models.kernels.device_support import flash_versions
from models.kernels.gpu_check import describe
from models.text import reviewer
from models.text.parsing import parse
from models.weights.loading import LoadedModel, Weights, load
from testing.small_models import FAMILIES, write_tiny_llama

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no NVIDIA GPU"),
]
GPU = torch.device("cuda", 0)


def load_tiny(folder: Path, weights: Weights = "nf4", device: torch.device = GPU) -> LoadedModel:
    family = FAMILIES["llama31"]
    return load(folder, family.base, template=family.template, weights=weights, device=device)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama31"), "llama31")


@torch.no_grad()
def logits(loaded: LoadedModel) -> torch.Tensor:
    scores: torch.Tensor = loaded.model(torch.arange(48, device=loaded.device)[None]).logits
    return scores.float().cpu()


def test_weights_are_on_the_gpu_in_nf4(tiny_folder: Path) -> None:
    model = load_tiny(tiny_folder).model
    state = model.model.layers[0].mlp.up_proj.weight.quant_state
    assert (state.quant_type, state.dtype) == ("nf4", torch.bfloat16)
    assert {parameter.device for parameter in model.parameters()} == {GPU}


def test_dequantised_weights_give_nearly_the_same_logits(tiny_folder: Path) -> None:
    nf4, dequantised = logits(load_tiny(tiny_folder)), logits(load_tiny(tiny_folder, "bf16"))
    assert (nf4 - dequantised).abs().mean() < 0.02 * nf4.std()


def test_gpu_logits_are_close_to_the_cpu(tiny_folder: Path) -> None:
    on_gpu = logits(load_tiny(tiny_folder))
    on_cpu = logits(load_tiny(tiny_folder, device=torch.device("cpu")))
    assert (on_gpu - on_cpu).abs().mean() < 0.03 * on_cpu.std()


def test_transformers_attention_is_flash_attention_where_it_is_installed(tiny_folder: Path) -> None:
    expected = next(iter(flash_versions(GPU)), "sdpa")
    assert load_tiny(tiny_folder).versions["attention"] == expected


def test_doctor_names_the_card_and_what_the_attention_was_selected_from() -> None:
    detail = describe(GPU, "bf16", "auto")
    assert torch.cuda.get_device_name(GPU) in detail
    assert "attention triton" in detail or "attention flash_attention" in detail
    assert "steps: " in detail


def test_a_seeded_guided_review_is_reproducible_on_the_gpu(tiny_folder: Path) -> None:
    config = reviewer.load(reviewer.builtin()["llama31-4"])
    request = replace(config.request("gpu", "[TITLE] Counting sheep", seed=5), max_new_tokens=300)
    request = replace(request, max_prompt_tokens=2000)
    engine = GenerateEngine(load_tiny(tiny_folder))
    try:
        first, second = [engine.submit(request).result(120) for _ in range(2)]
    finally:
        engine.close()
    assert first.token_ids == second.token_ids
    assert request.form is not None
    assert parse(first.text, request.form).strict
