"""Read and check adapters from local folders.

Only safetensors are read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig
from safetensors import SafetensorError
from safetensors.torch import load_file

from errors import RequestRefused
from models.adapters.peft_options import unsupported_option, unsupported_tensor
from models.hashes import adapter_sha256
from models.text.bases import BaseModel

_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class AdapterFile:
    """A LoRA or DoRA adapter as PEFT stores it; `tensors` by PEFT's names."""

    config: LoraConfig
    tensors: dict[str, Any]

    def modules(self) -> dict[str, dict[str, Any]]:
        """The tensors by the path of the module they belong to, as `A`, `B` and `magnitude`."""
        modules: dict[str, dict[str, Any]] = {}
        for name, tensor in self.tensors.items():
            module, part = split_tensor_name(name)
            modules.setdefault(module, {})[part.split(".")[0].split("_")[0]] = tensor
        return modules


def read_adapter(folder: Path, sha256: str, base: BaseModel, model: Any) -> AdapterFile:
    """Read the adapter in `folder` for a loaded model of `base`.

    RequestRefused (kind `adapter`) for pickles, a wrong hash, another base, wrong shapes or
    non-finite values.
    """
    if not (folder / _WEIGHTS).is_file():
        raise adapter_refused(folder, f"there is no {_WEIGHTS}; pickled adapters are never loaded")
    try:
        found = adapter_sha256(folder)
        options = json.loads((folder / _CONFIG).read_bytes())
        config = PeftConfig.from_pretrained(str(folder))
        tensors = load_file(folder / _WEIGHTS)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise adapter_refused(folder, f"it cannot be read: {error}") from error
    if found != sha256:
        raise adapter_refused(folder, f"its SHA-256 is {found[:12]}…, not {sha256[:12]}…")
    if not isinstance(config, LoraConfig):
        raise adapter_refused(folder, "it is neither LoRA nor DoRA")
    if config.base_model_name_or_path not in (base.name, base.hub):
        trained_on = config.base_model_name_or_path
        raise adapter_refused(folder, f"it was trained on {trained_on}, not on {base.name}")
    # Also here: an adapter may have been registered by a version that did not look.
    n_layers = model.config.num_hidden_layers
    problem = unsupported_option(options) or unsupported_tensor(options, tensors, n_layers)
    if problem:
        raise adapter_refused(folder, problem)
    config.inference_mode = True
    for name, tensor in tensors.items():
        # PEFT ignores tensors that match no module.
        if not _fits(model, *split_tensor_name(name), tuple(tensor.shape)):
            raise adapter_refused(folder, f"{name} has no place in {base.name}")
        # In a batch, non-finite values would spoil the reviews of other adapters too.
        if not tensor.isfinite().all():
            raise adapter_refused(folder, f"{name} holds numbers that are not finite")
    return AdapterFile(config, tensors)


def split_tensor_name(name: str) -> tuple[str, str]:
    """Split a tensor's name into its module's path and its role: `A`, `B` or `magnitude`."""
    module, _, part = name.removeprefix(_PREFIX).rpartition(".lora_")
    return module, part


def _fits(model: Any, module: str, part: str, shape: tuple[int, ...]) -> bool:
    try:
        # A layer with adapters attached has been moved one level down.
        layer = model.get_submodule(module)
        layer = getattr(layer, "base_layer", layer)
    except AttributeError:
        return False
    sides = {
        "A.weight": shape[1:] == (layer.in_features,),
        "B.weight": shape[:1] == (layer.out_features,),
        "magnitude_vector": shape == (layer.out_features,),
    }
    return sides.get(part, False)


def adapter_refused(folder: Path, reason: str) -> RequestRefused:
    """The error that says why an adapter cannot be used."""
    return RequestRefused(f"adapter {folder.name} is refused: {reason}", kind="adapter")
