"""Attach LoRA and DoRA adapters to a loaded model by PEFT and switch between them.

One adapter is active at a time; this is the reference for `models.adapters.adapter_bank`. Adapters
are not merged into the base weights, so switching back restores the base model exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from peft.utils.save_and_load import set_peft_model_state_dict

from errors import RequestRefused
from models.adapters.adapter_files import adapter_refused, read_adapter
from models.text.bases import BaseModel


class PeftAdapters:
    """The adapters of one model, by their SHA-256 (`models.hashes.adapter_sha256`)."""

    def __init__(self, model: Any, base: BaseModel) -> None:
        self._model = model
        self._base = base
        self._peft: Any = None
        self._attached: set[str] = set()
        self.active: str | None = None

    @property
    def attached(self) -> frozenset[str]:
        """The adapters that `activate` can switch to."""
        return frozenset(self._attached)

    def attach(self, folder: Path, sha256: str) -> None:
        """Load the adapter in `folder` beside the others, without activating it.

        RequestRefused (kind `adapter`) for pickles, a wrong hash, another base, wrong shapes.
        """
        if sha256 in self._attached:
            return
        file = read_adapter(folder, sha256, self._base, self._model)
        if self._peft is None:
            self._peft = PeftModel(self._model, file.config, adapter_name=sha256)
        else:
            self._peft.add_adapter(sha256, file.config)
        with _preserving_base_weights(self._model):
            loaded = set_peft_model_state_dict(self._peft, file.tensors, adapter_name=sha256)
        self._restore()
        self._check_complete(folder, sha256, loaded.missing_keys)
        self._attached.add(sha256)

    def activate(self, sha256: str | None) -> None:
        """Generate with this adapter from now on; None is the base model alone."""
        if sha256 is not None and sha256 not in self._attached:
            raise RequestRefused(f"adapter {sha256[:12]} is not attached", kind="adapter")
        self.active = sha256
        self._restore()

    def merged(self, sha256: str) -> Any:
        """Merge an attached adapter into the weights and return the model without adapter layers.

        This object cannot be used afterwards.
        """
        return self._peft.merge_and_unload(adapter_names=[sha256])

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

    def _check_complete(self, folder: Path, sha256: str, missing: list[str]) -> None:
        absent = [name for name in missing if sha256 in name]
        if absent:
            self._peft.delete_adapter(sha256)
            raise adapter_refused(folder, f"it lacks {len(absent)} tensors, such as {absent[0]}")


@contextmanager
def _preserving_base_weights(model: Any) -> Iterator[None]:
    """Restore the NF4 weights afterwards.

    PEFT reads the whole state dict. On a CPU with bfloat16 instructions bitsandbytes then unpacks
    the weights it had packed for them and quantises their scales again, which loses precision.
    """
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    kept = [(layer.weight.data, copy(layer.weight.quant_state)) for layer in layers]
    yield
    for layer, (data, state) in zip(layers, kept, strict=True):
        layer.weight.data, layer.weight.quant_state = data, state
