"""Only architectures that are computed rightly are loaded and trained; others are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GemmaConfig, MistralConfig, Qwen3Config
from transformers.configuration_utils import PreTrainedConfig

from errors import MissingPart, UserError
from models.text.bases import BaseModel
from models.weights.loading import load
from testing.small_models import FAMILIES, write_tiny_llama

CPU = torch.device("cpu")
BASE = BaseModel("tiny", "/nowhere", "", 512)
SHAPE = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
OTHERS = [
    (Qwen3Config(**SHAPE), "Qwen3ForCausalLM"),
    (MistralConfig(**SHAPE, sliding_window=64), "MistralForCausalLM"),
    (GemmaConfig(**SHAPE), "GemmaForCausalLM"),
]


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A Llama's folder without weights: what is refused is refused before they are read."""
    folder = write_tiny_llama(tmp_path / "model", "llama31")
    (folder / "model.safetensors").unlink()
    return folder


@pytest.mark.parametrize(("config", "name"), OTHERS, ids=[name for _, name in OTHERS])
def test_another_architecture_is_refused_by_name(
    tmp_path: Path, config: PreTrainedConfig, name: str
) -> None:
    config.architectures = [name]
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError) as refused:
        load(tmp_path, BASE, template="llama3", device=CPU)
    assert str(refused.value) == (
        f"{tmp_path} holds a {name}; supported architectures: "
        "LlamaForCausalLM (Llama 2 to 3.2, SmolLM2)."
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architectures": ["LlamaForSequenceClassification"]}, "LlamaForSequenceClassification;"),
        ({"model_type": "unheard_of", "architectures": None}, "model of type unheard_of;"),
        ({"attention_bias": True}, r"attention_bias True; .* with attention_bias False\."),
        ({"mlp_bias": True}, "mlp_bias True;"),
        ({"hidden_act": "gelu"}, "hidden_act gelu;"),
        ({"rope_parameters": {"rope_type": "spiral"}}, "rope_type spiral;"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
            r"rope_type dynamic; .* with rope_type default or linear or llama3\.",
        ),
        (
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            r"partial_rotary_factor 0\.5; ",
        ),
    ],
)
def test_a_llama_that_computes_another_function_is_refused(
    llama: Path, changes: dict[str, Any], sentence: str
) -> None:
    edit_config(llama, **changes)
    with pytest.raises(UserError, match=sentence) as refused:
        load(llama, FAMILIES["llama31"].base, template="llama3", device=CPU)
    assert str(refused.value).startswith(f"{llama} holds a ")


def test_the_rope_of_the_base_is_checked_too(llama: Path) -> None:
    base = BaseModel("tiny", "", "", 512, rope_scaling={"rope_type": "longrope"})
    with pytest.raises(UserError, match="rope_type longrope;"):
        load(llama, base, template="llama3", device=CPU)


def test_training_refuses_more_than_loading(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path, "llama31", attention_dropout=0.1)
    family = FAMILIES["llama31"]
    with pytest.raises(UserError, match=r"attention_dropout 0\.1; .* can be trained with"):
        load(folder, family.base, template=family.template, device=CPU, training=True)
    loaded = load(folder, family.base, template=family.template, device=CPU)
    assert loaded.model.config.attention_dropout == 0.1


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"model_type": "llama", "num_hidden_layers": "two"}', None]
)
def test_a_broken_configuration_is_a_missing_part(llama: Path, text: str | None) -> None:
    path = llama / "config.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(MissingPart, match=r"the configuration of tiny in .* cannot be read"):
        load(llama, BASE, template="llama3", device=CPU)


@pytest.mark.parametrize(
    "changes", [{"tie_word_embeddings": True}, {"head_dim": 32}], ids=["tied", "wide heads"]
)
def test_a_llama_32_loads(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = write_tiny_llama(tmp_path, "llama31", **changes)
    family = FAMILIES["llama31"]
    model = load(folder, family.base, template=family.template, device=CPU).model
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    assert tied == ("tie_word_embeddings" in changes)
