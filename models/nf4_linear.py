"""Linear layers with NF4 weights that multiply few rows in 4 bits; knows no requests."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import Tensor
from torch.nn.functional import linear as multiply_plainly

from models.nf4_product import BLOCK_WEIGHTS, ROW_TILES, fits, multiply, pack_scales

#: Rows that our product is faster for than bitsandbytes'; a single one is its fused kernel's, more,
#: those of a prompt, are dequantised once.
FEW_ROWS = range(2, 257)
#: Two products that each round weights and result to bf16 differ by 0.0033 of their norm.
TOLERANCE = 0.01
#: Compilers at work at a time, and products that must be the same to the bit.
_COMPILERS, _REPEATED = 8, 3

log = logging.getLogger(__name__)


class Nf4Linear(Linear4bit):  # type: ignore[misc]  # bitsandbytes has no types
    """bitsandbytes' layer, with its scales once more as our product reads them."""

    #: As `pack_scales` gives them, [block, out].
    packed_scales: Tensor

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        rows = hidden.reshape(-1, self.in_features)
        # The product has no gradient, and its inputs are in bf16.
        plain = hidden.requires_grad or hidden.dtype != torch.bfloat16
        if plain or len(rows) not in FEW_ROWS:
            output: Tensor = super().forward(hidden)
            return output
        product = multiply(rows, self.weight.data, self.packed_scales)
        return product.view(*hidden.shape[:-1], self.out_features)


def replace_linears(model: Any) -> int:
    """Make the model's layers ours where the product can do theirs; say how many.

    None, with a warning, where the product cannot be compiled or is wrong: it is tried on one
    layer of each shape, since a compiler's fault would otherwise only show in what reviews say.
    """
    fitting = [module for module in model.modules() if _fits(module)]
    one_of_each = {(linear.out_features, linear.in_features): linear for linear in fitting}
    if fitting and (doubt := _doubt_about(list(one_of_each.values()))):
        log.warning("decoding with bitsandbytes' products, which is slower: %s", doubt)
        return 0
    for linear in fitting:
        # The class alone changes: PEFT and state dicts go on finding bitsandbytes' layer.
        linear.__class__ = Nf4Linear
        linear.packed_scales = _packed_scales(linear)
    return len(fitting)


def _doubt_about(linears: list[Linear4bit]) -> str:
    """Why the product must not be used for these layers, "" if it may; compiles all of it."""
    try:
        with ThreadPoolExecutor(_COMPILERS) as pool:
            cases = product(linears, ROW_TILES)
            wrong = [each for each in pool.map(lambda case: _error(*case), cases) if each]
    except Exception as error:
        return f"ours cannot be compiled here: {type(error).__name__}: {error}"
    return wrong[0] if wrong else ""


@torch.inference_mode()
def _error(linear: Linear4bit, n_rows: int) -> str:
    """What is wrong with products of so many rows, "" if nothing."""
    shape = (n_rows, linear.in_features)
    rows = torch.randn(shape, device=linear.weight.device, dtype=torch.bfloat16)
    scales, packed = _packed_scales(linear), linear.weight.data
    ours = [multiply(rows, packed, scales) for _ in range(_REPEATED)]
    plain = multiply_plainly(rows, dequantize_4bit(packed, linear.weight.quant_state))
    error = float((ours[0].float() - plain.float()).norm() / plain.float().norm())
    if error < TOLERANCE and all(torch.equal(each, ours[0]) for each in ours):
        return ""
    return f"ours of {n_rows} rows and {linear.weight.quant_state.shape} are off by {error:.4f}"


def _packed_scales(linear: Linear4bit) -> Tensor:
    return pack_scales(linear.weight.quant_state.absmax, linear.out_features)


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
