"""An adapter with random weights, for measuring."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from models.adapters.adapter_package import CONFIG, PROVENANCE, WEIGHTS, prompt_sha256
from models.text.aspects import SEVEN
from models.text.templates import TEMPLATES

RANK = 16
#: The recipe's: all linear layers.
_SIDES = {
    "self_attn.q_proj": ("hidden", "hidden"),
    "self_attn.k_proj": ("hidden", "kv"),
    "self_attn.v_proj": ("hidden", "kv"),
    "self_attn.o_proj": ("hidden", "hidden"),
    "mlp.gate_proj": ("hidden", "inner"),
    "mlp.up_proj": ("hidden", "inner"),
    "mlp.down_proj": ("inner", "hidden"),
}


def write_random_adapter(folder: Path, model: Path, seed: int, base: str = "bench-llama") -> Path:
    """Write random weights of a LoRA on all linear layers, with the provenance of a trained one."""
    folder.mkdir()
    shape = json.loads((model / "config.json").read_text())
    heads = shape["num_key_value_heads"] / shape["num_attention_heads"]
    sizes = {
        "hidden": shape["hidden_size"],
        "inner": shape["intermediate_size"],
        "kv": int(shape["hidden_size"] * heads),
    }
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(shape["num_hidden_layers"]):
        for module, (n_in, n_out) in _SIDES.items():
            name = f"base_model.model.model.layers.{layer}.{module}.lora_"
            for part, size in (("A", (RANK, sizes[n_in])), ("B", (sizes[n_out], RANK))):
                values = 0.01 * torch.randn(size, generator=generator)
                tensors[f"{name}{part}.weight"] = values.to(torch.bfloat16)
    save_file(tensors, folder / WEIGHTS)
    modules = [name.rpartition(".")[2] for name in _SIDES]
    peft = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": modules,
    }
    provenance = {
        "name": f"random-{seed}",
        "base": base,
        "aspects": SEVEN.name,
        "template": "llama3",
        "template_sha256": TEMPLATES["llama3"].sha256,
        "prompt_sha256": prompt_sha256(SEVEN.system_prompt),
    }
    (folder / CONFIG).write_text(json.dumps(peft))
    (folder / PROVENANCE).write_text(json.dumps(provenance))
    return folder
