"""Small adapters in the format that the trainer writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from models.adapters.adapter_package import PROVENANCE, prompt_sha256
from models.text.aspects import FOUR
from models.text.templates import TEMPLATES


def write_adapter(base_folder: Path, folder: Path, base: str, seed: int = 0) -> Path:
    """Write a random adapter of `base` with its provenance."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    shape = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    adapted = get_peft_model(model, shape)
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(folder, save_embedding_layers=False)
    provenance = {
        "name": f"tiny-{seed}",
        "base": base,
        "aspects": "4",
        "template": "llama3",
        "template_sha256": TEMPLATES["llama3"].sha256,
        "prompt_sha256": prompt_sha256(FOUR.system_prompt),
        "dataset_sha256": "d" * 64,
        "metrics": {"eval_loss": 1.5},
        "papers": ["a" * 64, "b" * 64],
    }
    (folder / PROVENANCE).write_text(json.dumps(provenance))
    return folder


def change(folder: Path, name: str, **changes: Any) -> None:
    """Change keys of one of an adapter's JSON files."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
