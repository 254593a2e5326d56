"""Requests and adapters on which engines are compared."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from models.hashes import adapter_sha256
from models.kernels.device_support import Precision
from models.text.aspects import FOUR, SEVEN
from models.text.generation import Engine, GenerationRequest, Suppression
from models.weights.loading import LoadedModel, load
from testing.generation_requests import chat
from testing.small_models import FAMILIES

#: Seconds after which a future that has not ended is a failure.
DEADLINE = 120.0
LLAMA31 = FAMILIES["llama31"]
REQUEST = GenerationRequest(
    id="r1",
    messages=chat(
        FOUR.system_prompt,
        "[TITLE] Counting sheep [CONTENT] We count sheep and find that they are many.",
    ),
    form=FOUR,
    template="llama3",
    max_prompt_tokens=1500,
    max_new_tokens=24,
    temperature=1.0,
    guided=False,
)
GREEDY = replace(REQUEST, temperature=0.0)


def load_exact(
    folder: Path, device: str = "cpu", weights: Literal["nf4", "bf16"] = "nf4"
) -> LoadedModel:
    """Load in float32 on every machine, so that rounding does not decide between tokens."""
    loaded = load(
        folder,
        LLAMA31.base,
        template=LLAMA31.template,
        weights=weights,
        device=torch.device(device),
        attention="sdpa",
        precision=Precision(torch.float32, "for comparison"),
    )
    for module in loaded.model.modules():
        if isinstance(module, Linear4bit):
            # The kernel for CPUs with bfloat16 instructions rounds its operands.
            module.support_avx512bf16_for_cpu = False
    return loaded


def write_adapters(base_folder: Path, folder: Path) -> dict[str, Path]:
    """A LoRA on all linear layers, a DoRA on some, a LoRA of another rank; by their SHA-256."""
    shapes: list[dict[str, Any]] = [
        {"target_modules": "all-linear", "r": 8},
        {"target_modules": ["q_proj", "down_proj"], "r": 4, "use_dora": True},
        {"target_modules": ["v_proj", "o_proj", "lm_head"], "r": 16, "use_rslora": True},
    ]
    folders = {}
    for seed, shape in enumerate(shapes):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
        config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **shape)
        adapted = get_peft_model(base, config)
        adapted.peft_config["default"].base_model_name_or_path = LLAMA31.base.hub
        adapted.save_pretrained(folder / str(seed), save_embedding_layers=False)
        folders[adapter_sha256(folder / str(seed))] = folder / str(seed)
    return folders


def mixed_requests(n: int, adapters: list[str]) -> list[GenerationRequest]:
    """Requests that differ in all of their options."""
    draw = random.Random(7)
    requests = []
    for number in range(n):
        guided = number % 32 == 0
        requests.append(
            replace(
                REQUEST,
                id=f"r{number}",
                messages=chat(FOUR.system_prompt, "We count sheep. " * draw.randint(1, 40)),
                form=SEVEN if number == 0 else FOUR,
                max_new_tokens=(560 if number == 0 else 240) if guided else draw.randint(1, 40),
                temperature=draw.choice([0.0, 0.35, 1.0]),
                top_p=draw.choice([0.9, 1.0]),
                seed=draw.randint(0, 1 << 40),
                suppression=draw.choice([None, Suppression(), Suppression("probability", 0.5)]),
                guided=guided,
                adapter_sha256=draw.choice([None, *adapters]),
            )
        )
    return requests


def compare_with_reference(
    engine: Engine, reference: Engine, requests: Sequence[GenerationRequest]
) -> None:
    """Check that both generate the same tokens, with late and cancelled requests among them."""
    some = len(requests) * 5 // 8
    early, late = requests[:some], requests[some:]
    futures = [engine.submit(request) for request in early]
    futures[0].result(DEADLINE)
    for request in early[1:8]:
        engine.cancel(request.id)
    futures += [engine.submit(request) for request in late]
    compared = 0
    for request, future in zip(requests, futures, strict=True):
        try:
            found = future.result(DEADLINE)
        except CancelledError:
            continue
        expected = reference.submit(request).result(DEADLINE)
        assert found.token_ids == expected.token_ids, request
        assert (found.text, found.finish) == (expected.text, expected.finish)
        compared += 1
    assert compared >= len(requests) - 10
