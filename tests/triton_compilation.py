"""Compiles Triton kernels for GPUs that are not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from models.kernels.decode_attention import BLOCK_TOKENS, split_constants
from models.kernels.decode_attention_kernel import attend_split
from models.kernels.fp8_kernel import quantise_row, store_token_in_units
from models.kernels.nf4_kernel import dequantise_tiles
from models.kernels.nf4_tiling import dequantise_tile

#: Types of the arguments that are the same for every cache.
_POINTERS = {
    "tables": "*i32",
    "lengths": "*i32",
    "n_further": "*i32",
    "first_further": "*i32",
    "key_scales": "*fp32",
    "value_scales": "*fp32",
    "partial": "*fp32",
    "log_sums": "*fp32",
}
_INTEGERS = ("n_blocks", "block_stride", "token_stride", "head_stride", "scale_stride", "n_splits")
#: Arguments that are multiples of 16, as Triton's launcher finds.
_DIVISIBLE = ("block_stride", "token_stride", "head_stride")
_WARP_THREADS = 32


def compiled_decode_attention(capability: int, dtype: torch.dtype, queries: int) -> Any:
    """Compile attention over a cache in `dtype` for Llama 3.1 8B's heads."""
    cache = "*i16" if dtype == torch.float8_e4m3fn else "*bf16"
    constants = split_constants(dtype, queries, 4, 128)
    warps = constants.pop("num_warps")
    signature = {
        "query": "*bf16",
        "keys": cache,
        "values": cache,
        **_POINTERS,
        "scale": "fp32",
        **dict.fromkeys(_INTEGERS, "i32"),
        **dict.fromkeys(constants, "constexpr"),
    }
    assert constants["BLOCK"] == BLOCK_TOKENS
    return _compiled(attend_split, capability, signature, constants, _DIVISIBLE, warps)


def compiled_quantise_row(capability: int) -> Any:
    """Compile the rounding of rows of Llama 3.1 8B's widest layer to e4m3."""
    constants = {"WIDTH": 16_384}
    signature = {
        "rows": "*bf16",
        "values": "*fp8e4nv",
        "scales": "*fp32",
        **dict.fromkeys(("row_stride", "n_columns"), "i32"),
        **dict.fromkeys(constants, "constexpr"),
    }
    return _compiled(
        quantise_row, capability, signature, constants, ("row_stride", "n_columns"), warps=16
    )


def compiled_store_token_in_units(capability: int) -> Any:
    """Compile the writing of a step's keys and values into an 8-bit cache."""
    constants = {"ROWS": True, "HEADS": 8, "WIDTH": 8, "DIM": 128}
    signature = {
        **dict.fromkeys(("keys", "values"), "*bf16"),
        **dict.fromkeys(("key_pool", "value_pool"), "*fp8e4nv"),
        "slot_mapping": "*i64",
        "scales": "*fp32",
        "rows": "*i64",
        **dict.fromkeys(("key_stride", "value_stride", "kind_stride", "row_stride"), "i32"),
        **dict.fromkeys(constants, "constexpr"),
    }
    divisible = ("key_stride", "value_stride", "kind_stride")
    return _compiled(store_token_in_units, capability, signature, constants, divisible, warps=4)


def compiled_dequantise_to_fp8(capability: int, *, added: bool) -> Any:
    """Compile the dequantisation of NF4 to e4m3, with an adapter's product or without."""
    tile = dequantise_tile(added=added, fp8=True)
    constants = {"ADDED": added, "FP8": True, "OUTPUTS": tile.outputs, "BLOCKS": tile.blocks}
    signature = {
        "packed": "*u8",
        "scales": "*i32",
        "limits": "*fp32",
        **dict.fromkeys(("up", "down"), "*bf16"),
        "down_limits": "*fp32",
        "weights": "*fp8e4nv",
        "row_scales": "*fp32",
        **dict.fromkeys(("n_blocks", "scales_stride", "n_ranks", "up_stride"), "i32"),
        **dict.fromkeys(constants, "constexpr"),
    }
    divisible = ("scales_stride", "n_ranks", "up_stride")
    return _compiled(dequantise_tiles, capability, signature, constants, divisible, tile.warps)


def _compiled(
    kernel: Any,
    capability: int,
    signature: Mapping[str, str],
    constants: Mapping[str, Any],
    divisible: Sequence[str],
    warps: int,
) -> Any:
    """Compile a kernel; pointers and the integers in `divisible` are multiples of 16."""
    pointers = [name for name, kind in signature.items() if kind.startswith("*")]
    names = kernel.arg_names
    hints = {(names.index(n),): [["tt.divisibility", 16]] for n in (*pointers, *divisible)}
    source = ASTSource(kernel, signature, constants, hints)
    target = GPUTarget("cuda", capability, _WARP_THREADS)
    return triton.compile(source, target=target, options={"num_warps": warps})
