"""The trainer's loss and gradients equal those of PEFT on transformers' model, in fp32."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from peft.utils.save_and_load import set_peft_model_state_dict
from torch.nn.functional import cross_entropy

from models.kernels.device_support import Precision
from models.weights.loading import load
from testing.small_models import FAMILIES, write_tiny_llama
from trainer.data.pair_encoding import Sample
from trainer.qlora.activation_checkpointing import RecomputePlan
from trainer.qlora.causal_attention import choose_attention
from trainer.qlora.elementwise import choose_elementwise
from trainer.qlora.llama import TrainableLlama, head_shape
from trainer.qlora.lora import LoraSettings, peft_config

CPU = torch.device("cpu")
PLANS = [
    RecomputePlan(0, 0, 2),
    RecomputePlan(0, 2, 0),
    RecomputePlan(2, 0, 0),
    RecomputePlan(1, 0, 1, dense=True),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama31"), "llama31")


#: Llamas that differ from the one above in the options that `models.weights.architectures` allows.
VARIANTS: dict[str, dict[str, Any]] = {
    "tied embeddings": {"tie_word_embeddings": True},
    "heads wider than the hidden state": {"head_dim": 32},
    "linear RoPE": {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}},
}


def model_of(folder: Path) -> Any:
    family = FAMILIES["llama31"]
    precision = Precision(torch.float32, "test")
    return load(
        folder, family.base, template=family.template, device=CPU, precision=precision
    ).model


def trainable(folder: Path, settings: LoraSettings) -> TrainableLlama:
    """A model whose adapter is not the identity."""
    model = model_of(folder)
    attention = choose_attention(CPU, torch.float32, head_shape(model), 64)
    made = TrainableLlama(
        model, settings, attention=attention, elementwise=choose_elementwise(CPU), seed=1
    )
    draw = torch.Generator().manual_seed(2)
    for name, parameter in made.adapter.named():
        noise = torch.randn(parameter.shape, generator=draw)
        with torch.no_grad():
            if "magnitude" in name:
                parameter.mul_(1 + 0.1 * noise)
            elif "lora_B" in name:
                parameter.copy_(0.05 * noise)
    made.adapter.refresh()
    return made


def sample() -> Sample:
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(0, 250, (90,), generator=draw).tolist()
    return Sample(tuple(ids[:60]), tuple(ids[60:]), 0, 0)


def gradients(model: TrainableLlama, *, seed: int = 0) -> tuple[float, dict[str, torch.Tensor]]:
    for _, parameter in model.adapter.named():
        parameter.grad = None
    loss = model.loss(sample(), 1 / 30, seed)
    loss.backward()
    return float(loss.detach()), {
        name: parameter.grad.clone()
        for name, parameter in model.adapter.named()
        if parameter.grad is not None
    }


def reference(folder: Path, ours: TrainableLlama) -> tuple[float, dict[str, torch.Tensor]]:
    config = peft_config(ours.adapter.settings, "base")
    config.inference_mode = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the folder is not called "base"
        model = get_peft_model(model_of(folder), config)
    set_peft_model_state_dict(model, ours.adapter.tensors())
    ids = sample().prompt_ids + sample().response_ids
    scores = model(torch.tensor(ids)[None]).logits[0]
    loss = cross_entropy(scores[59:-1], torch.tensor(ids[60:]))
    loss.backward()
    named = {
        n.replace(".default", ""): p.grad for n, p in model.named_parameters() if p.grad is not None
    }
    return float(loss.detach()), {n.removesuffix(".weight"): g for n, g in named.items()}


@pytest.mark.parametrize("dora", [False, True], ids=["LoRA", "DoRA"])
def test_loss_and_gradients_equal_peft_for_every_recompute_plan(folder: Path, dora: bool) -> None:
    ours = trainable(folder, LoraSettings(4, 8, dora=dora))
    expected_loss, expected = reference(folder, ours)
    for plan in PLANS:
        ours.set_plan(plan)
        loss, found = gradients(ours)
        assert loss == pytest.approx(expected_loss, rel=1e-5), plan
        assert len(found) == len(expected), plan
        for name, gradient in found.items():
            wanted = expected[name.removesuffix(".weight")]
            assert (gradient - wanted).norm() <= 1e-4 * wanted.norm(), (plan, name)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_loss_and_gradients_equal_peft_for_every_supported_llama(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = write_tiny_llama(tmp_path, "llama31", **changes)
    ours = trainable(folder, LoraSettings(4, 8))
    expected_loss, expected = reference(folder, ours)
    ours.set_plan(PLANS[0])
    loss, found = gradients(ours)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for name, gradient in found.items():
        wanted = expected[name.removesuffix(".weight")]
        assert (gradient - wanted).norm() <= 1e-4 * wanted.norm(), name


def test_dropout_depends_only_on_its_seed_for_every_recompute_plan(folder: Path) -> None:
    ours = trainable(folder, LoraSettings(4, 8, dropout=0.2))
    ours.set_plan(PLANS[0])
    loss, stored = gradients(ours, seed=7)
    ours.set_plan(PLANS[1])
    again, recomputed = gradients(ours, seed=7)
    assert loss == again
    assert gradients(ours, seed=8)[0] != loss
    assert all(torch.allclose(stored[name], recomputed[name], atol=1e-7) for name in stored)
    assert ours.token_losses(sample()).mean() != pytest.approx(loss, rel=1e-4)


def test_token_losses_are_those_that_are_trained_on(folder: Path) -> None:
    ours = trainable(folder, LoraSettings(4, 8))
    losses = ours.token_losses(sample())
    assert losses.shape == (30,)
    assert float(losses.mean()) == pytest.approx(gradients(ours)[0], rel=1e-5)
