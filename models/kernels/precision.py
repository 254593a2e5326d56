"""Chooses the number format that a device computes in and says why."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """The format of activations and of every weight that is not in NF4."""

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """As in `bfloat16`."""
        return str(self.dtype).removeprefix("torch.")


def choose_precision(device: torch.device) -> Precision:
    """bf16, as trained, where the device has it; emulating it takes a CPU 4 times as long."""
    if device.type != "cpu":
        return Precision(torch.bfloat16, "a GPU computes in bfloat16, as trained")
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"):
        return Precision(torch.bfloat16, "this CPU has bfloat16 instructions")
    return Precision(torch.float32, "this CPU has no bfloat16 instructions")
