"""The processes of one run, one a GPU, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from errors import UserError

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Processes:
    """This process and the others of a run; a single process needs no torchrun."""

    rank: int = 0
    count: int = 1
    device: torch.device = _CPU

    @property
    def first(self) -> bool:
        """Whether this process writes files, database rows and progress."""
        return self.rank == 0

    def all_reduce_sum(self, values: Iterable[float]) -> list[float]:
        """Sum each value over all processes."""
        numbers = list(values)
        if self.count == 1:
            return numbers
        tensor = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor)
        summed: list[float] = tensor.tolist()
        return summed

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum gradients over all processes in one all-reduce."""
        if self.count == 1:
            return
        gradients = [_gradient(parameter) for parameter in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def close(self) -> None:
        """Leave the process group."""
        if self.count > 1:
            distributed.destroy_process_group()


def init_processes() -> Processes:
    """Join the other processes by torchrun's variables. UserError if there are too few GPUs."""
    # Samples differ in length, which fragments memory.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    rank, count = (int(os.environ.get(name, default)) for name, default in _VARIABLES)
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = _CPU
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise UserError(
                f"torchrun started more processes than GPUs ({torch.cuda.device_count()})."
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if count > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(rank, count, device)


_VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"))


def _gradient(parameter: nn.Parameter) -> Tensor:
    # A process without a sample in this step has none.
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
