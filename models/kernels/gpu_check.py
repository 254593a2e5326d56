"""Program that prints which kernels an engine would use on a device.

`python -P -m models.kernels.gpu_check cuda bf16 auto` prints one line, or fails as the driver does.
The arguments are the device, the format of the KV cache and the attention that is wanted. It runs
in a process of its own because a broken driver may abort the process.
"""

from __future__ import annotations

import sys
from typing import cast

import torch

from models.kernels.attention_selection import AttentionName, select_attention
from models.kernels.device_support import nf4_kernels_unavailable
from models.kernels.fp8 import FP8
from models.kernels.fp8_product import unavailable as fp8_unavailable
from models.kernels.paged_cache import CacheKind, CacheShape

#: Attention of Llama 3.1 8B: key-value heads, their width, query heads.
_KV_HEADS, _HEAD_DIM, _QUERY_HEADS = 8, 128, 32


@torch.inference_mode()
def describe(device: torch.device, kv_cache: CacheKind, wanted: AttentionName) -> str:
    """Use the device once and return its attention and matrix products, with reasons."""
    torch.zeros(1, device=device)
    dtype = FP8 if kv_cache == "fp8" else torch.bfloat16
    shape = CacheShape(1, _KV_HEADS, _HEAD_DIM, dtype, device)
    attention = select_attention(shape, _QUERY_HEADS, wanted)
    obstacle = nf4_kernels_unavailable(device)
    products = f"bitsandbytes' products ({obstacle})" if obstacle else "products in 4 bits"
    obstacle = obstacle or fp8_unavailable(device)
    prompts = f"not in FP8 ({obstacle})" if obstacle else "in FP8 for reviewers that allow it"
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{card}: attention {attention.name} ({attention.reason}), {products}, prompts {prompts}"


if __name__ == "__main__":
    name, kind, selection = sys.argv[1:]
    print(describe(torch.device(name), cast(CacheKind, kind), cast(AttentionName, selection)))
