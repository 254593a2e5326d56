"""Linear layers with NF4 weights that multiply few rows in 4 bits; knows no requests."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import Tensor
from torch.nn.functional import linear as multiply_plainly

from models.nf4_product import BLOCK_WEIGHTS, ROW_TILES, Nf4Matrix, dequantise, fits, multiply

#: Rows that are multiplied in 4 bits. A single one is bitsandbytes' fused kernel's; for more, those
#: of a prompt, the weights are written out in bf16 once.
FEW_ROWS = range(2, 257)
#: Layers of one module that read the same rows, in the order in which a Llama calls them.
TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
#: Two products that each round weights and result to bf16 differ by 0.0033 of their norm.
TOLERANCE = 0.01
#: Compilers at work at a time, and products that must be the same to the bit.
_COMPILERS, _REPEATED = 8, 3

log = logging.getLogger(__name__)


class JointProduct:
    """Multiplies the rows that several layers read by the weights of all, once.

    The first layer that is called with a tensor has the others' results computed too; each fetches
    its own. Nobody may change the tensor before the last has done so.
    """

    def __init__(self, matrix: Nf4Matrix) -> None:
        self.matrix = matrix
        self._read: Tensor | None = None
        self._unfetched: dict[int, Tensor] = {}

    def fetch(self, member: int, hidden: Tensor) -> Tensor:
        """Give one layer's result, [row, output], for `hidden`, [..., input]."""
        if hidden is not self._read or member not in self._unfetched:
            rows = hidden.reshape(-1, self.matrix.n_inputs)
            self._read, self._unfetched = hidden, dict(enumerate(multiply(rows, self.matrix)))
        result = self._unfetched.pop(member)
        if not self._unfetched:
            self._read = None
        return result

    def written_out(self, member: int) -> Tensor:
        """Give one layer's weights in bf16, [output, input]."""
        return dequantise(self.matrix.bytes_of(member), self.matrix.scales_of(member))


class Nf4Linear(Linear4bit):  # type: ignore[misc]  # bitsandbytes has no types
    """bitsandbytes' layer, with its weights and scales as our products read them.

    Its `weight` is a view of `joint`'s bytes for whoever asks for it: it must not be replaced.
    """

    joint: JointProduct
    #: Which of the joint matrices is this layer's.
    member: int

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        n_rows = hidden.numel() // self.in_features
        # Our products have no gradient, and their inputs are in bf16.
        if n_rows == 1 or hidden.requires_grad or hidden.dtype != torch.bfloat16:
            output: Tensor = super().forward(hidden)
            return output
        if n_rows in FEW_ROWS:
            result = self.joint.fetch(self.member, hidden)
            return result.view(*hidden.shape[:-1], self.out_features)
        return multiply_plainly(hidden, self.joint.written_out(self.member))


def replace_linears(model: Any) -> int:
    """Make the model's layers ours where the products can do theirs; say how many.

    None, with a warning, where a product cannot be compiled or is wrong: they are tried on one
    group of layers of each shape, since a compiler's fault would otherwise only show in what
    reviews say.
    """
    groups = _groups(model)
    one_of_each = {tuple(linear.weight.quant_state.shape for linear in g): g for g in groups}
    if groups and (doubt := _doubt_about(list(one_of_each.values()))):
        log.warning("decoding with bitsandbytes' products, which is slower: %s", doubt)
        return 0
    for group in groups:
        _replace(group)
    return sum(map(len, groups))


def _groups(model: Any) -> list[list[Linear4bit]]:
    """The layers that fit, those together that read the same rows."""
    groups = []
    for parent in model.modules():
        fitting = {name: child for name, child in parent.named_children() if _fits(child)}
        for names in TOGETHER:
            if fitting.keys() >= set(names):
                groups.append([fitting.pop(name) for name in names])
        groups += [[linear] for linear in fitting.values()]
    return groups


def _replace(group: Sequence[Linear4bit]) -> None:
    joint = JointProduct(_matrix(group))
    for member, linear in enumerate(group):
        # The class alone changes: PEFT and state dicts go on finding bitsandbytes' layer.
        linear.__class__ = Nf4Linear
        linear.joint, linear.member = joint, member
        linear.weight.data = joint.matrix.bytes_of(member).view_as(linear.weight.data)


def _matrix(group: Sequence[Linear4bit]) -> Nf4Matrix:
    return Nf4Matrix.of(
        [linear.weight.data for linear in group],
        [linear.weight.quant_state.absmax for linear in group],
        [linear.out_features for linear in group],
    )


def _doubt_about(groups: Sequence[Sequence[Linear4bit]]) -> str:
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
    """What is wrong with products of so many rows, or (None) with weights written out."""
    joint = JointProduct(_matrix(group))
    plain = torch.cat([dequantize_4bit(g.weight.data, g.weight.quant_state) for g in group])
    if n_rows is None:
        wanted, ours = plain, [torch.cat([joint.written_out(m) for m in range(len(group))])]
    else:
        rows = torch.randn(n_rows, joint.matrix.n_inputs, device=plain.device, dtype=plain.dtype)
        wanted = multiply_plainly(rows, plain)
        ours = [torch.cat(multiply(rows, joint.matrix), dim=1) for _ in range(_REPEATED)]
    error = float((ours[0].float() - wanted.float()).norm() / wanted.float().norm())
    if error < TOLERANCE and all(torch.equal(each, ours[0]) for each in ours):
        return ""
    what = "weights written out" if n_rows is None else f"products of {n_rows} rows"
    return f"our {what} of {joint.matrix.outputs} outputs are off by {error:.4f}"


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
