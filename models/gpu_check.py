"""Says what an engine would use on a device; a program, so that a broken driver ends nothing else.

`python -m models.gpu_check cuda` prints one line, or fails as the driver does.
"""

from __future__ import annotations

import sys

import torch

from models.attention import choose_attention
from models.fusion import why_not_in_four_bits


def describe(device: torch.device) -> str:
    """Touch the device and tell attention and matrix products, with reasons."""
    torch.zeros(1, device=device)
    attention = choose_attention(device)
    obstacle = why_not_in_four_bits(device)
    products = f"bitsandbytes' products ({obstacle})" if obstacle else "products in 4 bits"
    return f"{attention.name} ({attention.reason}), {products}"


if __name__ == "__main__":
    print(describe(torch.device(sys.argv[1])))
