"""Compiles Triton kernels for GPUs that are not here."""

from __future__ import annotations

from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from models.kernels.decode_attention import BLOCK_TOKENS, split_constants
from models.kernels.decode_attention_kernel import attend_split

#: Types of the arguments that are the same for every cache.
_POINTERS = {
    "tables": "*i32",
    "lengths": "*i32",
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
    pointers = [name for name, kind in signature.items() if kind.startswith("*")]
    names = attend_split.arg_names
    hints = {(names.index(n),): [["tt.divisibility", 16]] for n in (*pointers, *_DIVISIBLE)}
    source = ASTSource(attend_split, signature, constants, hints)
    target = GPUTarget("cuda", capability, _WARP_THREADS)
    assert constants["BLOCK"] == BLOCK_TOKENS
    return triton.compile(source, target=target, options={"num_warps": warps})
