"""Matrix products in FP8: e4m3 values with a scale for each row.

Both factors of a product are rounded to e4m3 in units of their rows' largest absolute values, the
sums are kept in float32 and the result is scaled back (Micikevicius et al. 2022, arXiv:2209.05433).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.kernels.device_support import triton_unavailable
from models.kernels.fp8 import FP8

#: Oldest compute capability with FP8 tensor cores, Ada.
MIN_CAPABILITY = (8, 9)
#: Numbers in a row are a multiple of this, as _scaled_mm requires.
_STEP = 16
#: Numbers that a warp quantises, and the most warps of a program.
_WARP_NUMBERS, _MOST_WARPS = 512, 16
#: Warps of a program that stores one token of a cache: 1,024 numbers of Llama 3.1 8B.
_STORE_WARPS = 4


@dataclass(frozen=True)
class Fp8Rows:
    """Rows `values` e4m3 [row, column] in units of `scales` float32 [row, 1]."""

    values: Tensor
    scales: Tensor


def unavailable(device: torch.device) -> str:
    """Why this device does not multiply in FP8; "" if it does."""
    if device.type != "cuda":
        return "no GPU"
    if torch.cuda.get_device_capability(device) < MIN_CAPABILITY:
        return "compute capability below 8.9"
    return triton_unavailable()


def quantise_rows(rows: Tensor) -> Fp8Rows:
    """Round `rows` [row, column] to e4m3. What is not finite makes its row's products NaN."""
    from models.kernels.fp8_kernel import quantise_row

    n_rows, n_columns = rows.shape
    values = torch.empty(n_rows, n_columns, device=rows.device, dtype=FP8)
    scales = torch.empty(n_rows, 1, device=rows.device)
    width = 1 << (n_columns - 1).bit_length()
    quantise_row[(n_rows,)](
        rows,
        values,
        scales,
        rows.stride(0),
        n_columns,
        WIDTH=width,
        num_warps=min(max(width // _WARP_NUMBERS, 1), _MOST_WARPS),
    )
    return Fp8Rows(values, scales)


def store_in_units(
    keys: Tensor,
    values: Tensor,
    key_pool: Tensor,
    value_pool: Tensor,
    slot_mapping: Tensor,
    scales: Tensor,
    rows: Tensor | None,
) -> None:
    """Store keys and values in e4m3, in units of `scales`; what is too large is clipped.

    Keys and values are [token, head, dim], the pools [block, token in block, head, dim],
    `slot_mapping` int64 [token] the places in the pools, `scales` float32 [2, row, head], `rows`
    int64 [token], or None where all tokens are of the first row.
    """
    from models.kernels.fp8_kernel import store_token_in_units

    n_tokens, n_heads, dim = keys.shape
    keys, values = (_with_heads_in_one_piece(each) for each in (keys, values))
    store_token_in_units[(n_tokens, 2)](
        keys,
        values,
        key_pool,
        value_pool,
        slot_mapping,
        scales,
        slot_mapping if rows is None else rows,
        keys.stride(0),
        values.stride(0),
        scales.stride(0),
        scales.stride(1),
        ROWS=rows is not None,
        HEADS=n_heads,
        WIDTH=1 << (n_heads - 1).bit_length(),
        DIM=dim,
        num_warps=_STORE_WARPS,
    )


def _with_heads_in_one_piece(tensor: Tensor) -> Tensor:
    """A tensor [token, head, dim] whose tokens each lie in one piece of memory."""
    _, _, dim = tensor.shape
    return tensor if tensor.stride()[1:] == (dim, 1) else tensor.contiguous()


def multiply(rows: Fp8Rows, weights: Fp8Rows) -> Tensor:
    """Multiply `rows` [row, input] by transposed `weights` [output, input]: bf16 [row, output]."""
    product: Tensor = torch._scaled_mm(
        rows.values,
        weights.values.t(),
        scale_a=rows.scales,
        scale_b=weights.scales.t(),
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )
    return product
