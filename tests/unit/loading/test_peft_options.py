"""Options of PEFT that no engine computes are refused before an adapter is registered."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from peft import LoraConfig

from models.adapters.peft_options import unsupported_option, unsupported_tensor

PREFIX = "base_model.model.model.layers"
PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj"],
    "bias": "none",
}


def names(*parts: str, layers: int = 2, module: str = "self_attn.q_proj") -> list[str]:
    return [
        f"{PREFIX}.{n}.{module}.lora_{part}"
        for n in range(layers)
        for part in ("A.weight", "B.weight", *parts)
    ]


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ({"init_lora_weights": "pissa"}, "PiSSA trains against changed base weights"),
        ({"init_lora_weights": "pissa_niter_16"}, "PiSSA trains against changed base weights"),
        ({"init_lora_weights": "PiSSA"}, "PiSSA trains against changed base weights"),
        ({"init_lora_weights": "olora"}, "OLoRA trains against changed base weights"),
        ({"init_lora_weights": "corda"}, "CorDA trains against changed base weights"),
        ({"init_lora_weights": "loftq"}, "LoftQ trains against changed base weights"),
        ({"init_lora_weights": "lora_ga"}, "LoRA-GA trains against changed base weights"),
        ({"init_lora_weights": "of next year"}, "initialised by 'of next year'"),
        ({"init_lora_weights": ["pissa"]}, "initialised by"),
        ({"bias": "all"}, "trains biases of the base model"),
        ({"bias": "lora_only"}, "trains biases of the base model"),
        ({"lora_bias": True}, "have a bias"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "replicates layers"),
        ({"alora_invocation_tokens": [27, 91]}, "aLoRA"),
        ({"trainable_token_indices": [5]}, "trained embeddings"),
        ({"trainable_token_indices": {"embed_tokens": [5]}}, "trained embeddings"),
        ({"target_parameters": ["mlp.experts.w"]}, "parameters that are not linear layers"),
        ({"modules_to_save": ["lm_head"]}, "replaces whole modules"),
        ({"rank_pattern": {"q_proj": 8}}, "differs from layer to layer"),
        ({"alpha_pattern": {"q_proj": 8}}, "differs from layer to layer"),
        ({"use_qalora": True}, "QALoRA"),
        ({"use_bdlora": {"nblocks": 2}}, "block-diagonal"),
        ({"kasa_config": {}, "arrow_config": {"top_k": 2}}, "routes between several"),
        ({"fan_in_fan_out": True}, "transposed"),
        ({"task_type": "SEQ_CLS"}, "its task is SEQ_CLS"),
        ({"lora_alpha": None}, "its lora_alpha is None"),
        ({"lora_alpha": "16"}, "its lora_alpha is '16'"),
        ({"lora_alpha": float("nan")}, "its lora_alpha is nan"),
        ({"lora_alpha": 0}, "its lora_alpha is 0"),
        ({"r": None}, "its rank (r) is None"),
        ({"r": 0}, "its rank (r) is 0"),
        ({"r": True}, "its rank (r) is True"),
        ({"use_rslora": "false"}, "its use_rslora is 'false'"),
        ({"use_dora": 1}, "its use_dora is 1"),
        ({"mixture_of_tomorrow": {"n": 2}}, "it sets mixture_of_tomorrow"),
    ],
)
def test_option_that_changes_the_arithmetic_is_refused(option: Any, reason: str) -> None:
    assert reason in (unsupported_option(PLAIN | option) or "")


@pytest.mark.parametrize("missing", ["r", "lora_alpha"])
def test_scale_must_be_stated(missing: str) -> None:
    stated = {name: value for name, value in PLAIN.items() if name != missing}
    assert "None" in (unsupported_option(stated) or "")


@pytest.mark.parametrize(
    "option",
    [
        {},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
        {"use_rslora": True, "use_dora": True},
        # A CorDA adapter that was converted to a plain one keeps its settings.
        {"init_lora_weights": True, "corda_config": {"corda_method": "ipm"}},
        {"layers_to_transform": [0, 1], "layers_pattern": "layers", "lora_alpha": 0.5},
        {"option_of_tomorrow": None, "another": False, "more": {}},
    ],
)
def test_option_without_effect_on_the_arithmetic_is_accepted(option: Any) -> None:
    assert unsupported_option(PLAIN | option) is None


def test_every_option_of_the_installed_peft_is_known() -> None:
    for option in fields(LoraConfig):
        if option.name not in PLAIN and option.name != "init_lora_weights":
            refused = unsupported_option(PLAIN | {option.name: {"some": "value"}}) or ""
            assert "which no engine knows" not in refused, option.name


def test_configuration_that_peft_writes_is_accepted() -> None:
    written = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM").to_dict()
    assert unsupported_option(written) is None


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ([], "it holds no tensors"),
        ([*names(), f"{PREFIX}.0.self_attn.q_proj.lora_B.bias"], "that no engine applies"),
        ([*names(), "base_model.model.lm_head.weight"], "that no engine applies"),
        ([*names(), "base_model.model.model.embed_tokens.lora_embedding_A"], "no engine applies"),
        ([*names(), "base_model.model.model.norm.lora_A.weight"], "that no engine applies"),
        (
            ["base_model.model." + n.removeprefix("base_model.model.model.") for n in names()],
            "no eng",
        ),
        (["_orig_mod." + name for name in names()], "is of a compiled model"),
        (
            [n.replace(".model.model.", ".model._orig_mod.model.") for n in names()],
            "compiled model",
        ),
        (names()[:-1], "it lacks B.weight of model.layers.1.self_attn.q_proj"),
        (names("magnitude_vector"), "but use_dora is not set"),
        ([*names(), *names(module="mlp.up_proj")], "which its target_modules do not name"),
        (names(layers=3)[2:], "it lacks model.layers.0.self_attn.q_proj"),
        (names(layers=3)[:2] + names(layers=3)[4:], "it lacks model.layers.1.self_attn.q_proj"),
    ],
)
def test_tensors_that_are_not_those_of_the_configuration_are_refused(
    tensors: list[str], reason: str
) -> None:
    assert reason in (unsupported_tensor(PLAIN, tensors) or "")


@pytest.mark.parametrize(
    ("targets", "module", "accepted"),
    [
        ("all-linear", "self_attn.q_proj", False),
        (["self_attn.q_proj"], "self_attn.q_proj", True),
        (r".*\.q_proj", "self_attn.q_proj", True),
        (r".*(", "self_attn.q_proj", False),
        (["proj"], "self_attn.q_proj", False),
        (None, "self_attn.q_proj", True),
    ],
)
def test_targets_are_compared_as_peft_does(targets: Any, module: str, accepted: bool) -> None:
    found = unsupported_tensor(PLAIN | {"target_modules": targets}, names(module=module))
    assert (found is None) is accepted


def test_layers_that_are_left_out_on_purpose_may_be_absent() -> None:
    chosen = PLAIN | {"layers_to_transform": [1], "exclude_modules": ["k_proj"]}
    assert unsupported_tensor(chosen, names()[2:]) is None
    assert "do not name" in (unsupported_tensor(chosen, names()) or "")
    assert unsupported_tensor(PLAIN, names(), n_layers=2) is None
    assert "lacks model.layers.2" in (unsupported_tensor(PLAIN, names(), n_layers=3) or "")
