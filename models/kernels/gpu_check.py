"""Program that prints which kernels an engine would use on a device.

`python -P -m models.kernels.gpu_check cuda` prints one line, or fails as the driver does. It runs
in a process of its own because a broken driver may abort the process.
"""

from __future__ import annotations

import sys

import torch

from models.kernels.device_support import choose_attention, nf4_kernels_unavailable


def describe(device: torch.device) -> str:
    """Use the device once and return its attention kernel and matrix products, with reasons."""
    torch.zeros(1, device=device)
    attention = choose_attention(device)
    obstacle = nf4_kernels_unavailable(device)
    products = f"bitsandbytes' products ({obstacle})" if obstacle else "products in 4 bits"
    return f"{attention.name} ({attention.reason}), {products}"


if __name__ == "__main__":
    print(describe(torch.device(sys.argv[1])))
