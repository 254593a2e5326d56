"""What a device and the installed packages support, with the reasons."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from shutil import which

import torch
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

#: Compute capability of H100 and H200.
_HOPPER = (9, 0)
#: Compute capability 8.x: Ampere and Ada.
_AMPERE_AND_ADA = 8
#: Triton compiles a launcher for each kernel in C.
NO_COMPILER = "there is no C compiler"


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


def flash_versions(device: torch.device) -> list[str]:
    """The versions of FlashAttention that are installed and run on this device, the newest first.

    By transformers' names.
    """
    if device.type != "cuda":
        return []
    capability = torch.cuda.get_device_capability(device)
    found = []
    if capability == _HOPPER and is_flash_attn_3_available():
        found.append("flash_attention_3")
    if capability[0] in (_AMPERE_AND_ADA, _HOPPER[0]) and is_flash_attn_2_available():
        found.append("flash_attention_2")
    return found


def triton_unavailable() -> str:
    """Why Triton kernels cannot be compiled here; "" if they can."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    compilers = (os.environ.get("CC"), "gcc", "clang")
    return "" if any(name and which(name) for name in compilers) else NO_COMPILER


def nf4_kernels_unavailable(device: torch.device) -> str:
    """Why this device does not multiply small batches by NF4 weights in 4 bits; "" if it does."""
    if device.type != "cuda":
        return "no GPU"
    if torch.cuda.get_device_capability(device)[0] != _HOPPER[0]:
        return "in 4 bits measured on Hopper only"
    return triton_unavailable()
