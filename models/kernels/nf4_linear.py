"""Linear layers with NF4 weights that multiply small batches in 4 bits."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, Generic, TypeVar

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import Tensor
from torch.nn.functional import linear as multiply_plainly

from models.kernels.fp8_product import Fp8Rows, quantise_rows
from models.kernels.fp8_product import multiply as multiply_in_fp8
from models.kernels.nf4_product import (
    LowRank,
    LowRankTerm,
    Nf4Matrix,
    dequantise,
    dequantise_to_fp8,
    multiply,
)
from models.kernels.nf4_tiling import BLOCK_WEIGHTS, RANK_STEP, ROW_TILES, fits
from models.text.generation import Arithmetic

#: Batch sizes that are multiplied in 4 bits. A single row uses bitsandbytes' fused kernel; for more
#: rows, those of a prompt, the weights are dequantised to bf16 once.
SMALL_BATCH_ROWS = range(2, 257)
#: Layers of one module that read the same rows, in the order in which a Llama calls them.
FUSED_LAYERS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
#: Products that each round weights and result to bf16 differ by 0.0033 of their norm.
TOLERANCE = 0.01
#: Parallel compilations, and repetitions that must be bitwise equal.
_COMPILERS, _REPEATED = 8, 3

_Result = TypeVar("_Result")
log = logging.getLogger(__name__)


class SharedResult(Generic[_Result]):
    """What layers of a group compute from the rows that they all read, computed for the first one.

    It is kept until the last layer of the group has taken it. The rows must not change before.
    """

    def __init__(self, n_members: int) -> None:
        self._n_members = n_members
        self._read: Tensor | None = None
        self._result: _Result | None = None
        self._waiting: set[int] = set()

    def take(self, member: int, rows: Tensor, compute: Callable[[], _Result]) -> _Result:
        """Return the result for `rows`; `compute` it unless a layer of the group has done so."""
        if self._result is None or rows is not self._read or member not in self._waiting:
            self._read, self._result = rows, compute()
            self._waiting = set(range(self._n_members))
        result = self._result
        self._waiting.discard(member)
        if not self._waiting:
            self._read = self._result = None
        return result


class FusedProjection:
    """The matrices of layers that read the same rows.

    Small batches are multiplied by all of them at once; of a prompt only its rows in FP8 are
    shared. `adapters` are those of all matrices.
    """

    def __init__(self, matrix: Nf4Matrix) -> None:
        self.matrix = matrix
        self.adapters: LowRank | None = None
        #: How the rows of a prompt are multiplied.
        self.arithmetic: Arithmetic = "exact"
        n_members = len(matrix.outputs)
        self._products: SharedResult[tuple[Tensor, ...]] = SharedResult(n_members)
        self._fp8_rows: SharedResult[Fp8Rows] = SharedResult(n_members)

    def multiply_rows(self, member: int, hidden: Tensor, columns: Tensor | None = None) -> Tensor:
        """Multiply the rows of `hidden`, [..., input], in 4 bits: one layer's [row, output].

        `columns`, as in LowRank.project_rows, are the ranks of the adapters that each row has.
        """

        def multiply_by_all() -> tuple[Tensor, ...]:
            rows = hidden.reshape(-1, self.matrix.n_inputs)
            added = None
            if self.adapters is not None and columns is not None:
                added = self.adapters.project_rows(rows, columns)
            return multiply(rows, self.matrix, added)

        return self._products.take(member, hidden, multiply_by_all)[member]

    def multiply_prompt(self, member: int, hidden: Tensor, added: LowRank | None = None) -> Tensor:
        """Multiply the many rows of `hidden`, [..., input], by dequantised weights: [..., output].

        `added` is summed with the weights before they are rounded.
        """
        if self.arithmetic == "exact":
            return multiply_plainly(hidden, self.dequantised(member, added))
        rows = self._fp8_rows.take(
            member, hidden, lambda: quantise_rows(hidden.reshape(-1, self.matrix.n_inputs))
        )
        weights = dequantise_to_fp8(*self._stored(member), self.matrix.limits_of(member), added)
        return multiply_in_fp8(rows, weights).view(*hidden.shape[:-1], -1)

    def dequantised(self, member: int, added: LowRank | None = None) -> Tensor:
        """Give one layer's weights in bf16, [output, input], and with them what is added."""
        return dequantise(*self._stored(member), added)

    def _stored(self, member: int) -> tuple[Tensor, Tensor]:
        return self.matrix.bytes_of(member), self.matrix.scales_of(member)


class Nf4Linear(Linear4bit):
    """bitsandbytes' layer, with weights and scales in the layout of our products.

    Its `weight` is a view of `fused`'s bytes for other readers: it must not be replaced.
    """

    fused: FusedProjection
    #: Which of the joint matrices is this layer's.
    member: int

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        if self.supports_rows(hidden):
            return self.multiply_rows(hidden)
        if hidden.numel() == self.in_features or not _has_kernel(hidden):
            output: Tensor = super().forward(hidden)
            return output
        return self.multiply_prompt(hidden)

    def supports_rows(self, hidden: Tensor) -> bool:
        """Whether `multiply_rows` multiplies rows [..., in] like these."""
        return hidden.numel() // self.in_features in SMALL_BATCH_ROWS and _has_kernel(hidden)

    def multiply_rows(self, hidden: Tensor, columns: Tensor | None = None) -> Tensor:
        """Map [..., in] to [..., out]; `columns` as in FusedProjection.multiply_rows."""
        result = self.fused.multiply_rows(self.member, hidden, columns)
        return result.view(*hidden.shape[:-1], self.out_features)

    def multiply_prompt(self, hidden: Tensor, added: LowRank | None = None) -> Tensor:
        """Map [..., in] to [..., out] for many rows; `added` as in FusedProjection."""
        return self.fused.multiply_prompt(self.member, hidden, added)


def _has_kernel(hidden: Tensor) -> bool:
    """Whether our products apply: they have no gradient and take bf16."""
    return not hidden.requires_grad and hidden.dtype == torch.bfloat16


def fused_layer_groups(model: Any) -> list[list[str]]:
    """Paths of the layers that share a product, in the order of its matrices."""
    joints: dict[FusedProjection, list[str]] = {}
    for path, module in model.named_modules():
        if isinstance(module, Nf4Linear):
            joints.setdefault(module.fused, []).append(path)
    return [sorted(paths, key=lambda p: model.get_submodule(p).member) for paths in joints.values()]


def replace_linears(model: Any) -> int:
    """Replace the linear layers that our products support; return how many.

    None, with a warning, if a product cannot be compiled or is wrong: products are tested on one
    group of layers of each shape, since a compiler's fault would otherwise show only in reviews.
    """
    groups = _groups(model)
    examples = {tuple(linear.weight.quant_state.shape for linear in g): g for g in groups}
    if groups and (reason := _why_unusable(list(examples.values()))):
        log.warning("decoding with bitsandbytes' products, which is slower: %s", reason)
        return 0
    for group in groups:
        _replace(group)
    return sum(map(len, groups))


def _groups(model: Any) -> list[list[Linear4bit]]:
    """The supported layers, grouped by the rows that they read."""
    groups = []
    for parent in model.modules():
        fitting = {name: child for name, child in parent.named_children() if _fits(child)}
        for names in FUSED_LAYERS:
            if fitting.keys() >= set(names):
                groups.append([fitting.pop(name) for name in names])
        groups += [[linear] for linear in fitting.values()]
    return groups


def _replace(group: Sequence[Linear4bit]) -> None:
    fused = FusedProjection(_matrix(group))
    for member, linear in enumerate(group):
        # Only the class changes: PEFT and state dicts still find bitsandbytes' layer.
        linear.__class__ = Nf4Linear
        linear.fused, linear.member = fused, member
        linear.weight.data = fused.matrix.bytes_of(member).view_as(linear.weight.data)


def _matrix(group: Sequence[Linear4bit]) -> Nf4Matrix:
    return Nf4Matrix.of(
        [linear.weight.data for linear in group],
        [linear.weight.quant_state.absmax for linear in group],
        [linear.out_features for linear in group],
    )


def _why_unusable(groups: Sequence[Sequence[Linear4bit]]) -> str:
    """Why our products must not be used for these layers, "" if they may; compiles all of them."""
    try:
        with ThreadPoolExecutor(_COMPILERS) as pool:
            cases = product(groups, (*ROW_TILES, None))
            wrong = [each for each in pool.map(lambda case: _error(*case), cases) if each]
    except Exception as error:
        return f"ours cannot be compiled here: {type(error).__name__}: {error}"
    return wrong[0] if wrong else ""


@torch.inference_mode()
def _error(group: Sequence[Linear4bit], n_rows: int | None) -> str:
    """What is wrong with products of `n_rows` rows, or (None) with dequantised weights."""
    fused = FusedProjection(_matrix(group))
    plain = torch.cat([dequantize_4bit(g.weight.data, g.weight.quant_state) for g in group])
    adapters = random_adapters(fused.matrix.outputs, plain)
    summed = plain + torch.cat([each.up @ each.down for each in adapters])
    if n_rows is None:
        wrong = _relative_error(plain, lambda: _dequantised(fused, [None] * len(group)))
        wrong = max(wrong, _relative_error(summed, lambda: _dequantised(fused, adapters)))
    else:
        rows = torch.randn(n_rows, fused.matrix.n_inputs, device=plain.device, dtype=plain.dtype)
        added = _joined(adapters).project_rows(rows, rows.new_ones(1, 1, RANK_STEP))
        wrong = _relative_error(rows @ plain.t(), lambda: _multiplied(fused, rows, None))
        wrong = max(
            wrong, _relative_error(rows @ summed.t(), lambda: _multiplied(fused, rows, added))
        )
    if wrong < TOLERANCE:
        return ""
    what = "dequantised weights" if n_rows is None else f"products of {n_rows} rows"
    return f"our {what} of {fused.matrix.outputs} outputs are off by {wrong:.4f}"


def random_adapters(outputs: Sequence[int], weights: Tensor) -> list[LowRank]:
    """One for each matrix, whose product is as large as the `weights` [output, input]."""
    size = float(weights.float().std()) / RANK_STEP**0.5
    return [
        LowRank.of(
            torch.randn(n, RANK_STEP, device=weights.device, dtype=weights.dtype),
            torch.randn_like(weights[:RANK_STEP]) * size,
        )
        for n in outputs
    ]


def _dequantised(fused: FusedProjection, adapters: Sequence[LowRank | None]) -> Tensor:
    return torch.cat([fused.dequantised(m, adapter) for m, adapter in enumerate(adapters)])


def _joined(adapters: Sequence[LowRank]) -> LowRank:
    up, down = zip(*((each.up, each.down) for each in adapters), strict=True)
    return LowRank.of(torch.cat(up), torch.cat(down))


def _multiplied(fused: FusedProjection, rows: Tensor, added: LowRankTerm | None) -> Tensor:
    return torch.cat(multiply(rows, fused.matrix, added), dim=1)


def _relative_error(wanted: Tensor, find: Callable[[], Tensor]) -> float:
    """Error relative to the norm; infinite if repetitions differ."""
    found = [find() for _ in range(_REPEATED)]
    if not all(torch.equal(each, found[0]) for each in found):
        return math.inf
    return float((found[0].float() - wanted.float()).norm() / wanted.float().norm())


def _fits(module: Any) -> bool:
    if type(module) is not Linear4bit or module.bias is not None:
        return False
    state = module.weight.quant_state
    return (
        not state.nested
        and (state.quant_type, state.blocksize) == ("nf4", BLOCK_WEIGHTS)
        and (state.dtype, module.weight.dtype) == (torch.bfloat16, torch.uint8)
        and fits(module.out_features, module.in_features)
    )
