"""Transfers from host to device that do not synchronise."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, device


def upload(tensor: Tensor, target: device) -> Tensor:
    """Copy a host tensor to the device.

    A plain copy to a GPU waits for all work queued on it; this copy is queued too.
    """
    if target.type != "cuda":
        return tensor.to(target)
    return tensor.pin_memory().to(target, non_blocking=True)


def side_stream(source: device) -> AbstractContextManager[object]:
    """A reusable context in which reading does not wait for work in progress.

    Tensors read in it must have been written before and must not change meanwhile.
    """
    if source.type != "cuda":
        return nullcontext()
    stream = torch.cuda.Stream()
    return torch.cuda.stream(stream)


def set_entry(column: Tensor, row: int, value: float) -> None:
    """Set one entry of a tensor [row]: assigning it would be a plain copy, see `upload`."""
    column[row].fill_(value)
