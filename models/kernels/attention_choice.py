"""Chooses the attention kernel for a device and says why."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

_HOPPER = (9, 0)
#: Compute capability 8.x: Ampere and Ada.
_AMPERE_AND_ADA = 8


@dataclass(frozen=True)
class AttentionChoice:
    """A name that transformers understands, and a sentence for `referee doctor`."""

    name: str
    reason: str


def choose_attention(device: torch.device) -> AttentionChoice:
    """The fastest kernel that this device and this machine's packages offer."""
    if device.type != "cuda":
        return AttentionChoice("sdpa", "no GPU: PyTorch's own attention")
    capability = torch.cuda.get_device_capability(device)
    card = torch.cuda.get_device_name(device)
    if capability == _HOPPER and is_flash_attn_3_available():
        return AttentionChoice("flash_attention_3", f"{card} and FlashAttention-3 is here")
    if capability[0] in (_AMPERE_AND_ADA, _HOPPER[0]) and is_flash_attn_2_available():
        return AttentionChoice("flash_attention_2", f"{card} and flash-attn is here")
    return AttentionChoice("sdpa", f"{card}, and {_missing(capability)}: PyTorch's own attention")


def _missing(capability: tuple[int, int]) -> str:
    if capability == _HOPPER:
        return "neither FlashAttention-3 nor flash-attn is installed"
    if capability[0] == _AMPERE_AND_ADA:
        return "flash-attn is not installed"
    return f"there is no FlashAttention for compute capability {capability[0]}.{capability[1]}"
