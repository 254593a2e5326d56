"""Moves what the host makes to a device without waiting for it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, device


def upload(tensor: Tensor, target: device) -> Tensor:
    """Copy a tensor of the host to the device.

    A plain copy to a GPU first waits until that has done all it was given; this one is only queued.
    """
    if target.type != "cuda":
        return tensor.to(target)
    return tensor.pin_memory().to(target, non_blocking=True)


def side_stream(source: device) -> AbstractContextManager[object]:
    """A context, for any number of uses, in which reading waits for nothing that is under way.

    What is read there must have been written before, and not change meanwhile.
    """
    if source.type != "cuda":
        return nullcontext()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types here
    return torch.cuda.stream(stream)


def set_entry(column: Tensor, row: int, value: float) -> None:
    """Set one entry of a tensor [row]: assigning it would be a plain copy, see `upload`."""
    column[row].fill_(value)
