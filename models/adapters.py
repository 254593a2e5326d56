"""Attaches LoRA and DoRA adapters to a loaded model and switches between them; knows no requests.

Only safetensors are read. Adapters stay beside the base weights and are never merged, so switching
back gives the base model to the last bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel
from peft.utils.save_and_load import set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from errors import RequestRefused
from models.hashes import adapter_sha256
from models.reviewer import BaseModel

_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."


class Adapters:
    """The adapters of one model, by their SHA-256 (`models.hashes.adapter_sha256`)."""

    def __init__(self, model: Any, base: BaseModel) -> None:
        self._model = model
        self._base = base
        self._peft: Any = None
        self._attached: set[str] = set()
        self.active: str | None = None

    @property
    def attached(self) -> frozenset[str]:
        """What `activate` can switch to."""
        return frozenset(self._attached)

    def attach(self, folder: Path, sha256: str) -> None:
        """Load the adapter in `folder` beside the others, without activating it.

        RequestRefused (kind `adapter`) for pickles, a wrong hash, another base, wrong shapes.
        """
        if sha256 in self._attached:
            return
        config, tensors = self._read(folder, sha256)
        self._check_fit(folder, tensors)
        if self._peft is None:
            self._peft = PeftModel(self._model, config, adapter_name=sha256)
        else:
            self._peft.add_adapter(sha256, config)
        loaded = set_peft_model_state_dict(self._peft, tensors, adapter_name=sha256)
        self._restore()
        self._check_complete(folder, sha256, loaded.missing_keys)
        self._attached.add(sha256)

    def activate(self, sha256: str | None) -> None:
        """Generate with this adapter from now on; None is the base model alone."""
        if sha256 is not None and sha256 not in self._attached:
            raise RequestRefused(f"adapter {sha256[:12]} is not attached", kind="adapter")
        self.active = sha256
        self._restore()

    def _restore(self) -> None:
        if self._peft is None:
            return
        if self.active is None:
            self._peft.base_model.disable_adapter_layers()
        else:
            self._peft.base_model.enable_adapter_layers()
            self._peft.set_adapter(self.active)
            self._peft.requires_grad_(False)
        self._peft.eval()

    def _read(self, folder: Path, sha256: str) -> tuple[LoraConfig, dict[str, Any]]:
        if not (folder / _WEIGHTS).is_file():
            raise _refusal(folder, f"there is no {_WEIGHTS}; pickled adapters are never loaded")
        try:
            found = adapter_sha256(folder)
            config = PeftConfig.from_pretrained(str(folder))
            tensors = load_file(folder / _WEIGHTS)
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise _refusal(folder, f"it cannot be read: {error}") from error
        if found != sha256:
            raise _refusal(folder, f"its SHA-256 is {found[:12]}…, not {sha256[:12]}…")
        if not isinstance(config, LoraConfig):
            raise _refusal(folder, "it is neither LoRA nor DoRA")
        if config.base_model_name_or_path not in (self._base.name, self._base.hub):
            trained_on = config.base_model_name_or_path
            raise _refusal(folder, f"it was trained on {trained_on}, not on {self._base.name}")
        config.inference_mode = True
        return config, tensors

    def _check_fit(self, folder: Path, tensors: dict[str, Any]) -> None:
        """Refuse before the model is touched: PEFT would ignore tensors that have no place."""
        for name, tensor in tensors.items():
            module, _, part = name.removeprefix(_PREFIX).rpartition(".lora_")
            if not self._fits(module, part, tuple(tensor.shape)):
                raise _refusal(folder, f"{name} has no place in {self._base.name}")

    def _fits(self, module: str, part: str, shape: tuple[int, ...]) -> bool:
        try:
            # PEFT moves a wrapped layer one level down.
            layer = self._model.get_submodule(module)
            layer = getattr(layer, "base_layer", layer)
        except AttributeError:
            return False
        sides = {
            "A.weight": shape[1:] == (layer.in_features,),
            "B.weight": shape[:1] == (layer.out_features,),
            "magnitude_vector": shape == (layer.out_features,),
        }
        return sides.get(part, False)

    def _check_complete(self, folder: Path, sha256: str, missing: list[str]) -> None:
        absent = [name for name in missing if sha256 in name]
        if absent:
            self._peft.delete_adapter(sha256)
            raise _refusal(folder, f"it lacks {len(absent)} tensors, such as {absent[0]}")


def _refusal(folder: Path, reason: str) -> RequestRefused:
    return RequestRefused(f"adapter {folder.name} is refused: {reason}", kind="adapter")
