"""Frozen NF4 projections with trainable low-rank parts, as one differentiable operation.

Projections that read the same input are one group: its A matrices are applied in one product. The
operation that makes the input (norm, gate) belongs to the group too: the backward
pass recomputes it, which costs 1 % of the time and saves a third of the activations. A dequantised
weight is freed right after the product that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from torch import Tensor

Prologue = Callable[..., Tensor]


class RecomputeContext:
    """Active while a block is recomputed, for its activations only."""

    def __init__(self) -> None:
        self.active = False

    def __enter__(self) -> None:
        self.active = True

    def __exit__(self, *_: object) -> None:
        self.active = False


class FrozenWeight:
    """An NF4 weight [out, in]; DoRA's factor of each output is multiplied into its scales."""

    def __init__(self, linear: Any) -> None:
        self._data: Tensor = linear.weight.data
        self._state = linear.weight.quant_state
        self._scaled = self._state
        self._dense: Tensor | None = None
        self.out_features, self.in_features = self._state.shape
        self.device = self._data.device

    def dense(self) -> Tensor:
        """The weight in the compute format."""
        return self._dequantised(self._scaled) if self._dense is None else self._dense

    def unscaled(self) -> Tensor:
        """The weight without DoRA's factors."""
        return self._dequantised(self._state)

    def scale_rows(self, factor: Tensor) -> None:
        """Multiply row i by factor[i] ([out] in fp32), rounding once."""
        if self.in_features % self._state.blocksize:
            raise ValueError(f"rows of {self.in_features} are not a multiple of the NF4 block size")
        self._scaled = copy(self._state)
        rows = self._state.absmax.view(self.out_features, -1)
        self._scaled.absmax = (rows * factor[:, None]).reshape(-1)
        if self._dense is not None:
            self._dense = None
            self.cache_dense()

    def cache_dense(self) -> None:
        """Keep the dequantised weight: 4 times the memory, but no time at every use."""
        self._dense = self.dense()

    def release_dense(self) -> None:
        """Dequantise at every use again."""
        self._dense = None

    def _dequantised(self, state: Any) -> Tensor:
        dense: Tensor = dequantize_4bit(self._data, state)
        return dense


@dataclass(frozen=True)
class Dropout:
    """Dropout before the A matrices; its mask is generated from a seed and not stored."""

    rate: float
    seed: int

    def __call__(self, values: Tensor) -> Tensor:
        """Zero a share of the values and scale up the rest."""
        if not self.rate:
            return values
        generator = torch.Generator(values.device).manual_seed(self.seed)
        keep = torch.empty_like(values).bernoulli_(1 - self.rate, generator=generator)
        return values * keep.div_(1 - self.rate)


@dataclass(frozen=True)
class ProjectionGroup:
    """The arguments of `project` that have no gradients."""

    weights: Sequence[FrozenWeight]
    prologue: Prologue
    dropout: Dropout
    #: Set for a block's last projection, whose output a recomputation does not need.
    recomputation: RecomputeContext | None = None


def project(
    group: ProjectionGroup,
    inputs: Sequence[Tensor],
    down: Tensor,
    ups: Sequence[Tensor],
    *,
    magnitudes: Sequence[Tensor] = (),
    residual: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Map x = prologue(*inputs) [token, in] to x W_i' + dropout(x) A_i' B_i' (+ residual).

    `down` holds the stacked A_i, [ranks, in]; `ups` are the B_i [out, rank], scaled.
    `magnitudes` are DoRA's [out]; weights and `ups` contain them already, so only their
    gradients are computed here.
    """
    apply: Callable[..., tuple[Tensor, ...]] = _Projection.apply
    return apply(group, len(inputs), residual, down, *inputs, *ups, *magnitudes)


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        group: ProjectionGroup,
        n_inputs: int,
        residual: Tensor | None,
        down: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        inputs, ups, magnitudes = _split_tensors(rest, n_inputs, len(group.weights))
        ctx.group, ctx.n_inputs, ctx.inner = group, n_inputs, None
        if group.recomputation and group.recomputation.active and not magnitudes:
            # The output is not used: only the inputs are needed again.
            ctx.save_for_backward(down, *rest)
            return (_output(inputs, group.weights[0]),)
        x = group.prologue(*inputs)
        inner = group.dropout(x) @ down.T
        added = None if magnitudes else residual
        parts = zip(group.weights, ups, inner.chunk(len(ups), dim=1), strict=True)
        outputs = [_project_one(inputs, x, weight, up, part, added) for weight, up, part in parts]
        if group.recomputation:
            # A recomputation does not make it, so it must not be among the saved tensors.
            ctx.inner = inner
        kept = () if group.recomputation else (inner,)
        ctx.save_for_backward(down, *rest, *(outputs if magnitudes else ()), *kept)
        if residual is not None and magnitudes:
            return (residual + outputs[0],)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        group: ProjectionGroup = ctx.group
        down, *rest = ctx.saved_tensors
        inner = rest.pop() if ctx.inner is None else ctx.inner
        inputs, ups, others = _split_tensors(rest, ctx.n_inputs, len(group.weights))
        d_magnitudes = _magnitude_gradients(gradients, others)
        x, leaves = _recompute_prologue(group.prologue, inputs)
        dropped = group.dropout(x.detach())
        parts = zip(gradients, inner.chunk(len(ups), dim=1), strict=True)
        d_ups = [gradient.T @ part for gradient, part in parts]
        pairs = zip(gradients, ups, strict=True)
        d_inner = torch.cat([gradient @ up for gradient, up in pairs], dim=1)
        d_down = d_inner.T @ dropped
        del dropped
        d_inputs: Sequence[Tensor | None] = [None] * len(inputs)
        if any(ctx.needs_input_grad[4 : 4 + len(inputs)]):
            d_x = group.dropout(d_inner @ down)
            for gradient, weight in zip(gradients, group.weights, strict=True):
                d_x.addmm_(gradient, weight.dense())
            d_inputs = _input_gradients(x, leaves, d_x)
        d_residual = gradients[0] if ctx.needs_input_grad[2] else None
        return (None, None, d_residual, d_down, *d_inputs, *d_ups, *d_magnitudes)


def _split_tensors(
    tensors: Sequence[Tensor], n_inputs: int, n_weights: int
) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """Split into inputs, B matrices and the rest."""
    after = n_inputs + n_weights
    return tensors[:n_inputs], tensors[n_inputs:after], tensors[after:]


def _project_one(
    inputs: Sequence[Tensor],
    x: Tensor,
    weight: FrozenWeight,
    up: Tensor,
    part: Tensor,
    residual: Tensor | None,
) -> Tensor:
    # The small product first: the large one then accumulates into it at no cost.
    output = _output(inputs, weight)
    if residual is None:
        torch.mm(part, up.T, out=output)
    else:
        torch.addmm(residual, part, up.T, out=output)
    return output.addmm_(x, weight.dense().T)


def _magnitude_gradients(gradients: Sequence[Tensor], saved: Sequence[Tensor]) -> list[Tensor]:
    """DoRA's: an output is its magnitude times a direction. `saved` are magnitudes and outputs."""
    half = len(saved) // 2
    return [
        (gradient * output).sum(0, dtype=torch.float32) / magnitude
        for gradient, magnitude, output in zip(gradients, saved[:half], saved[half:], strict=False)
    ]


def _output(inputs: Sequence[Tensor], weight: FrozenWeight) -> Tensor:
    # Selective recomputation must find the same operations as the first time, this one included.
    return inputs[0].new_empty(inputs[0].shape[0], weight.out_features)


def _recompute_prologue(
    prologue: Prologue, inputs: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    with torch.enable_grad():
        return prologue(*leaves), leaves


def _input_gradients(x: Tensor, leaves: list[Tensor], d_x: Tensor) -> Sequence[Tensor]:
    if x is leaves[0]:
        return (d_x,)
    return torch.autograd.grad(x, leaves, d_x)
