"""The arithmetic in which prompts are read: exactly, or with matrix products in FP8.

A prompt's thousands of rows make its matrix products most of a paper's time, and FP8 tensor cores
multiply twice as fast as bf16. Weights are dequantised from NF4 to e4m3 with a scale an output,
with the adapter added before they are rounded; activations are rounded with a scale a token.
Attention, norms and the steps that write the answer stay as they are.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from models.kernels.fp8_product import unavailable
from models.kernels.nf4_linear import FusedProjection, Nf4Linear, random_adapters
from models.text.generation import Arithmetic

#: Rows of the check. Rounding both factors to three bits of mantissa gives an error of 0.037 of a
#: product's norm, and the adapters' part has the same.
_CHECKED_ROWS, _TOLERANCE = 384, 0.06
#: Repetitions that must be bitwise equal.
_REPEATED = 3

_log = logging.getLogger(__name__)


class PromptArithmetic:
    """Switches the NF4 layers of one model between exact products of prompts and those in FP8."""

    def __init__(self, model: Any, *, allow_fp8: bool = True) -> None:
        """Check the products on one group of layers of each shape, if FP8 is allowed."""
        self._projections = _projections(model)
        #: Why no prompt is read in FP8; "" if prompts can be.
        self.fp8_unavailable = "switched off"
        if allow_fp8:
            self.fp8_unavailable = _why_unusable(model, self._projections)

    @property
    def available(self) -> tuple[Arithmetic, ...]:
        """What prompts can be read in."""
        return ("exact",) if self.fp8_unavailable else ("exact", "fp8")

    def choose(self, wanted: Arithmetic) -> Arithmetic:
        """Return `wanted` where it is available, else `exact`."""
        return wanted if wanted in self.available else "exact"

    @contextmanager
    def use(self, arithmetic: Arithmetic) -> Iterator[None]:
        """Read a prompt in an available arithmetic."""
        self._set(arithmetic)
        try:
            yield
        finally:
            self._set("exact")

    def _set(self, arithmetic: Arithmetic) -> None:
        for projection in self._projections:
            projection.arithmetic = arithmetic


def _projections(model: Any) -> list[FusedProjection]:
    found = (module.fused for module in model.modules() if isinstance(module, Nf4Linear))
    return list(dict.fromkeys(found))


def _why_unusable(model: nn.Module, projections: Sequence[FusedProjection]) -> str:
    """Why prompts cannot be read in FP8; "" if they can."""
    device = next(model.parameters()).device
    if reason := unavailable(device):
        return reason
    if not projections:
        return "the weights are not multiplied by our NF4 kernels"
    try:
        error = max(map(_error, _examples(projections)))
    except (torch.AcceleratorError, torch.OutOfMemoryError):
        raise
    except Exception as error_raised:
        reason = f"products in FP8 fail: {type(error_raised).__name__}: {error_raised}"
    else:
        reason = f"products in FP8 are off by {error:.3f}" if not error < _TOLERANCE else ""
    if reason:
        _log.warning("prompts are read in bf16: %s", reason)
    return reason


def _examples(projections: Sequence[FusedProjection]) -> list[FusedProjection]:
    """One of each shape."""
    return list({(p.matrix.outputs, p.matrix.n_inputs): p for p in projections}.values())


@torch.inference_mode()
def _error(projection: FusedProjection) -> float:
    """The error of products in FP8 relative to their norm; infinite if repetitions differ."""
    matrix = projection.matrix
    exact = [projection.dequantised(m) for m in range(len(matrix.outputs))]
    adapters = random_adapters(matrix.outputs, exact[0])
    rows = torch.randn(
        _CHECKED_ROWS, matrix.n_inputs, device=matrix.packed.device, dtype=torch.bfloat16
    )
    worst = 0.0
    for added in ([None] * len(adapters), adapters):
        wanted = _multiply_all(projection, rows, added, "exact")
        found = [_multiply_all(projection, rows, added, "fp8") for _ in range(_REPEATED)]
        if not all(torch.equal(each, found[0]) for each in found):
            return math.inf
        worst = max(worst, float((found[0] - wanted).norm() / wanted.norm()))
    return worst


def _multiply_all(
    projection: FusedProjection, rows: Tensor, added: Sequence[Any], arithmetic: Arithmetic
) -> Tensor:
    projection.arithmetic = arithmetic
    try:
        products = [projection.multiply_prompt(m, rows, each) for m, each in enumerate(added)]
    finally:
        projection.arithmetic = "exact"
    return torch.cat(products, dim=1).float()
