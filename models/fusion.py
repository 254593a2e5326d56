"""Fuses a Llama's small operations on a GPU through Liger's kernels; knows nothing of engines.

Norms, rotary positions and SwiGLU move few bytes and much time: a prefill of 9,000 tokens takes 250
instead of 296 ms on an H200 (Hsu et al. 2024, arXiv:2410.10989).
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import Any


def fuse(model: Any) -> str:
    """Patch the model's modules in place; say with what, "none" where it cannot be done."""
    if model.device.type != "cuda" or find_spec("liger_kernel") is None:
        return "none"
    from liger_kernel.transformers import apply_liger_kernel_to_llama

    apply_liger_kernel_to_llama(
        rope=True,
        rms_norm=True,
        swiglu=True,
        cross_entropy=False,
        fused_linear_cross_entropy=False,
        model=model,
    )
    return f"liger-kernel {version('liger-kernel')}"
