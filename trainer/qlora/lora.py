"""The trainable parameters: LoRA's A and B and DoRA's magnitudes of every projection.

They are fp32 in every compute format, so that small steps are not lost to rounding and a resumed
run is bitwise equal (Hu et al. 2021, arXiv:2106.09685; Liu et al. 2024, arXiv:2402.09353). The
files are PEFT's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from trainer.qlora.projections import FrozenWeight

#: Every linear layer of a block, in the groups that read the same input.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
TARGETS = tuple(name.split(".")[1] for names in GROUPS.values() for name in names)
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class LoraSettings:
    """Rank r, scaling alpha / r, dropout before A, and DoRA's magnitudes or not."""

    rank: int
    alpha: float
    dropout: float = 0.0
    dora: bool = False

    @property
    def scaling(self) -> float:
        """The factor on B A."""
        return self.alpha / self.rank


class LoraLayer(nn.Module):
    """The adapter of one projection: `down` [rank, in], `up` [out, rank], `magnitude` [out]."""

    def __init__(self, weight: FrozenWeight, settings: LoraSettings, draw: torch.Generator) -> None:
        super().__init__()
        self._weight, self._settings = weight, settings
        device = weight.device
        down = torch.empty(settings.rank, weight.in_features)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=draw)
        self.down = nn.Parameter(down.to(device))
        self.up = nn.Parameter(torch.zeros(weight.out_features, settings.rank, device=device))
        self.magnitude: nn.Parameter | None = None
        self._factor: Tensor | None = None
        if settings.dora:
            self._squares = weight.unscaled().float().square().sum(1)
            self.magnitude = nn.Parameter(self._squares.sqrt())
            self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Recompute DoRA's factors from the current parameters; call it after every step.

        A row of W + s B A has the squared norm |w|^2 + 2 s b (W A')' + s^2 b (A A') b', so the
        sum itself is never computed. As in DoRA, no gradient flows through the norm.
        """
        if self.magnitude is None:
            return
        scaling = self._settings.scaling
        cross = (self._weight.unscaled().float() @ self.down.T * self.up).sum(1)
        square = (self.up @ (self.down @ self.down.T) * self.up).sum(1)
        norms = (self._squares + 2 * scaling * cross + scaling**2 * square).sqrt()
        self._factor = self.magnitude / norms
        self._weight.scale_rows(self._factor)

    def scaled_up(self, dtype: torch.dtype) -> Tensor:
        """B in the compute format, times scaling and DoRA's factor."""
        up = self.up * self._settings.scaling
        if self._factor is not None:
            up = up * self._factor[:, None]
        return up.to(dtype)


class LoraAdapter(nn.Module):
    """The low-rank parts of all projections of all blocks, by the module's path in the model."""

    def __init__(
        self, weights: Mapping[str, FrozenWeight], settings: LoraSettings, seed: int
    ) -> None:
        super().__init__()
        self.settings = settings
        draw = torch.Generator().manual_seed(seed)
        self._parts = {path: LoraLayer(weight, settings, draw) for path, weight in weights.items()}
        self._list = nn.ModuleList(self._parts.values())

    def __getitem__(self, path: str) -> LoraLayer:
        return self._parts[path]

    def refresh(self) -> None:
        """Recompute DoRA's factors; call it after every change of the parameters."""
        for part in self._parts.values():
            part.refresh()

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter by PEFT's name for it, in a fixed order."""
        for path, part in self._parts.items():
            yield f"{_PREFIX}{path}.lora_A.weight", part.down
            yield f"{_PREFIX}{path}.lora_B.weight", part.up
            if part.magnitude is not None:
                yield f"{_PREFIX}{path}.lora_magnitude_vector", part.magnitude

    def tensors(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The parameters' values on the CPU."""
        return {name: value.detach().to("cpu", dtype).clone() for name, value in self.named()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load values that `tensors` returned."""
        for name, parameter in self.named():
            parameter.copy_(tensors[name])
        self.refresh()


def write_adapter(
    folder: Path, tensors: Mapping[str, Tensor], settings: LoraSettings, base: str
) -> None:
    """Write adapter_model.safetensors and adapter_config.json for a base model's name."""
    save_file(dict(tensors), folder / "adapter_model.safetensors", {"format": "pt"})
    # PEFT writes sets in any order, but equal adapters must have equal hashes.
    fields = peft_config(settings, base).to_dict()
    values = {key: sorted(v) if isinstance(v, set) else v for key, v in fields.items()}
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")


def peft_config(settings: LoraSettings, base: str) -> Any:
    """The settings in PEFT's terms."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type, unused-ignore]  # PEFT takes floats
        lora_dropout=settings.dropout,
        use_dora=settings.dora,
        target_modules=sorted(TARGETS),
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        inference_mode=True,
    )
