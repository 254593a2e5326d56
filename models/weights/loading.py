"""Load a base model in NF4, or dequantised from NF4.

Everything is read from a local folder: no network, no pickle, no code from a checkpoint.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig
from transformers.utils import logging as transformers_logging

from errors import MissingPart
from models.adapters.peft_adapters import PeftAdapters
from models.hashes import weights_sha256
from models.kernels.device_support import (
    Precision,
    choose_precision,
    flash_versions,
)
from models.kernels.fusion import fuse
from models.text.bases import BaseModel
from models.text.templates import TEMPLATES, Template
from models.weights.architectures import check_class, check_values
from models.weights.quantised_cache import WeightsCache
from models.weights.store import load_tokenizer

Weights = Literal["nf4", "bf16"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to generate, with what a review must record about it.

    `model` is transformers' own class with the adapters' layers injected; `adapters` switches them.
    """

    model: Any
    base: BaseModel
    adapters: PeftAdapters
    tokenizer: Tokenizer
    template: Template
    device: torch.device
    max_context: int
    versions: Mapping[str, str]


def default_device() -> torch.device:
    """The first visible GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(
    folder: Path,
    base: BaseModel,
    *,
    template: str,
    weights: Weights = "nf4",
    device: torch.device,
    attention: str | None = None,
    precision: Precision | None = None,
    cache: WeightsCache | None = None,
    fused: bool = True,
    nf4_kernels: bool = True,
    training: bool = False,
) -> LoadedModel:
    """Load the weights in `folder` as described by `base`.

    `nf4` keeps the linear layers in NF4 with double quantisation; `bf16` dequantises those same NF4
    values once, which costs memory and saves time. With `cache` the NF4 weights are read from there
    if they were quantised before, bitwise equal. Embeddings and LM head are never quantised.
    `fused` False keeps transformers' own modules, for comparison; `nf4_kernels` False keeps
    bitsandbytes' products with NF4 weights, which have gradients. `attention` is that of
    transformers' own forward pass, by its name there: FlashAttention where it is installed, unless
    given; ContinuousEngine selects its own. `training` also refuses what can be loaded but not
    trained.
    UserError, before any weights are read, when `models.weights.architectures` does not name the
    model or `template` does not fit its tokenizer; MissingPart when the folder does not load.
    """
    _silence_libraries()
    config = _read_config(folder, base, training=training)
    attention = attention or next(iter(flash_versions(device)), "sdpa")
    precision = precision or choose_precision(device)
    tokenizer = load_tokenizer(folder)
    TEMPLATES[template].check(tokenizer)
    model = _load_nf4(folder, base, config, device, attention, precision, cache)
    if weights == "bf16":
        model = model.dequantize(dtype=precision.dtype)
    model.eval()
    fusion = fuse(model, nf4_kernels=nf4_kernels) if fused else "none"
    # The checkpoint's own sampling defaults must not mix with a request's.
    model.generation_config = GenerationConfig()
    return LoadedModel(
        model=model,
        base=base,
        adapters=PeftAdapters(model, base),
        tokenizer=tokenizer,
        template=TEMPLATES[template],
        device=device,
        max_context=base.max_context,
        versions={
            **_versions(folder, base, weights, attention, precision, device),
            "fused": fusion,
        },
    )


def _load_nf4(
    folder: Path,
    base: BaseModel,
    config: Any,
    device: torch.device,
    attention: str,
    precision: Precision,
    cache: WeightsCache | None,
) -> Any:
    """Read the quantised weights from the cache, or quantise them and cache them."""
    options = {
        "dtype": precision.dtype,
        "device_map": {"": device},
        "attn_implementation": attention,
        "local_files_only": True,
        "use_safetensors": True,
    }
    if cache is None:
        return _quantise(folder, base, config, precision, options)
    entry = cache.entry(
        {
            "weights_sha256": weights_sha256(folder),
            "format": "nf4, double quantisation",
            "rope": base.rope_scaling,
            "compute": precision.name,
            "device": device.type,
        }
    )
    if entry.is_dir():
        cache.touch(entry)
        try:
            return AutoModelForCausalLM.from_pretrained(entry, **options)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            log.warning("the cached weights in %s cannot be read: %s", entry, error)
            shutil.rmtree(entry, ignore_errors=True)
    model = _quantise(folder, base, config, precision, options)
    cache.save(model, entry)
    return model


def _quantise(
    folder: Path, base: BaseModel, config: Any, precision: Precision, options: dict[str, Any]
) -> Any:
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision.dtype,
    )
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            quantization_config=quantisation,
            **options,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise MissingPart(f"the weights of {base.name} in {folder} do not load: {error}") from error


def _read_config(folder: Path, base: BaseModel, *, training: bool) -> Any:
    """The folder's configuration with the base's RoPE, of a supported architecture."""
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError("config.json is not a JSON object")
        architecture = check_class(document, folder)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        raise MissingPart(
            f"the configuration of {base.name} in {folder} cannot be read: {error}"
        ) from error
    if base.rope_scaling is not None:
        config.rope_parameters = {**config.rope_parameters, **base.rope_scaling}
        config.max_position_embeddings = base.max_context
    check_values(config.to_dict(), folder, architecture, training=training)
    return config


def _silence_libraries() -> None:
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    # It warns at import that it could not fetch a faster CPU kernel from the hub; none is needed.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def _versions(
    folder: Path,
    base: BaseModel,
    weights: Weights,
    attention: str,
    precision: Precision,
    device: torch.device,
) -> Mapping[str, str]:
    libraries = ("torch", "transformers", "bitsandbytes", "peft", "tokenizers")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        **{name: version(name) for name in libraries},
        "base": base.name,
        "weights": weights,
        "weights_sha256": weights_sha256(folder),
        "compute": precision.name,
        "attention": attention,
        "device": card,
    }
