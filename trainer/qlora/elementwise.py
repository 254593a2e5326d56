"""Norm, gate and rotary position of a Llama as differentiable functions.

PyTorch's operations, or Liger's Triton kernels where they are installed: these operations are bound
by memory bandwidth (Hsu et al. 2024, arXiv:2410.10989).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Elementwise:
    """`norm(hidden, weight, eps)`, `gate(gate, up)` and `rotate(query, key, cos, sin)`.

    `rotate` takes [1, head, token, channel] and may overwrite its query and key; `gate` may
    overwrite its inputs in the backward pass.
    """

    name: str
    norm: Callable[[Tensor, Tensor, float], Tensor]
    gate: Callable[[Tensor, Tensor], Tensor]
    rotate: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def choose_elementwise(device: torch.device) -> Elementwise:
    """Liger's kernels on a GPU where they are installed, else PyTorch's operations."""
    if device.type != "cuda" or find_spec("liger_kernel") is None:
        return Elementwise("torch", _norm, _gate, _rotate)
    return liger()


def liger() -> Elementwise:
    """Liger's kernels; they need Triton."""
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction
    from liger_kernel.ops.rope import LigerRopeFunction
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    def norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
        return _tensor(LigerRMSNormFunction.apply(hidden, weight, eps, 0.0, "llama", True))

    def gate(gate: Tensor, up: Tensor) -> Tensor:
        return _tensor(LigerSiLUMulFunction.apply(gate, up))

    def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        rotated: tuple[Tensor, Tensor] = LigerRopeFunction.apply(query, key, cos, sin)
        return rotated

    return Elementwise(f"liger-kernel {version('liger-kernel')}", norm, gate, rotate)


def _tensor(value: Any) -> Tensor:
    tensor: Tensor = value
    return tensor


def _norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = hidden.float()
    scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * scaled.to(hidden.dtype)


def _gate(gate: Tensor, up: Tensor) -> Tensor:
    return functional.silu(gate) * up


def _rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return _rotated(query, cos, sin), _rotated(key, cos, sin)


def _rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat((-right, left), dim=-1) * sin
