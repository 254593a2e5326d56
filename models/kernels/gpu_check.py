"""Says what an engine would use on a device; a program, so that a broken driver ends nothing else.

`python -P -m models.kernels.gpu_check cuda` prints one line, or fails as the driver does.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

import torch

from models.kernels.attention_choice import choose_attention

#: Major compute capability of H100 and H200.
HOPPER = 9


def describe(device: torch.device) -> str:
    """Touch the device and tell attention and matrix products, with reasons."""
    torch.zeros(1, device=device)
    attention = choose_attention(device)
    obstacle = nf4_kernels_unavailable(device)
    products = f"bitsandbytes' products ({obstacle})" if obstacle else "products in 4 bits"
    return f"{attention.name} ({attention.reason}), {products}"


def nf4_kernels_unavailable(device: torch.device) -> str:
    """Why few rows are not multiplied by NF4 weights in 4 bits on this device; "" if they are."""
    if device.type != "cuda":
        return "no GPU"
    if torch.cuda.get_device_capability(device)[0] != HOPPER:
        return "in 4 bits measured on Hopper only"
    return "" if find_spec("triton") else "Triton is not installed"


if __name__ == "__main__":
    print(describe(torch.device(sys.argv[1])))
