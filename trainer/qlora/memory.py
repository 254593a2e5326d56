"""Fit a run into GPU memory: plan recomputation and test it with the longest sample."""

from __future__ import annotations

import gc

import torch

from errors import MissingPart
from trainer.data.pair_encoding import Sample
from trainer.qlora.activation_checkpointing import RecomputePlan, make_plan
from trainer.qlora.llama import TrainableLlama

#: AdamW keeps two fp32 values a parameter, beside the gradient.
_OPTIMISER_BYTES = 8
_GRADIENT_BYTES = 4


def limit_memory(device: torch.device, gib: float) -> None:
    """Limit the GPU memory of this process; 0 is no limit."""
    if gib and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / total), device)


def fit(model: TrainableLlama, n_tokens: int, n_response: int, gib: float = 0.0) -> RecomputePlan:
    """Choose how much is recomputed for samples of at most `n_tokens`, and test it by running one.

    `gib` limits the process's memory. MissingPart when even full recomputation does not fit.
    """
    longest = Sample((1,) * (n_tokens - n_response), (1,) * n_response, 0, 0)
    if model.device.type != "cuda":
        everything = RecomputePlan(0, 0, model.shape.n_blocks)
        model.set_plan(everything)
        return everything
    limit_memory(model.device, gib)
    n_parameters = sum(parameter.numel() for _, parameter in model.adapter.named())
    reserve = torch.empty(n_parameters * _OPTIMISER_BYTES, dtype=torch.uint8, device=model.device)
    free = _free(model.device, gib) - n_parameters * _GRADIENT_BYTES
    dense = sum(w.out_features * w.in_features for w in model.weights.values())
    plan: RecomputePlan | None = make_plan(
        model.shape, n_tokens, free, dense * model.dtype.itemsize
    )
    while plan is not None:
        model.set_plan(plan)
        if _trial_step(model, longest):
            del reserve
            _clear_gradients(model)
            torch.cuda.reset_peak_memory_stats(model.device)
            return plan
        plan = plan.with_less_memory()
    raise MissingPart(
        f"The GPU has too little free memory to train on samples of {n_tokens} tokens: use a "
        "larger card, or a recipe with a smaller rank or shorter prompts."
    )


def _trial_step(model: TrainableLlama, sample: Sample) -> bool:
    """Run one sample forward and backward; False if memory does not suffice."""
    try:
        # Twice: the second finds the gradients of the first.
        for _ in range(2):
            model.backward(sample, 1.0, 0)
        torch.cuda.synchronize(model.device)
    except torch.cuda.OutOfMemoryError:
        _clear_gradients(model)
        return False
    return True


def _clear_gradients(model: TrainableLlama) -> None:
    for _, parameter in model.adapter.named():
        parameter.grad = None
    gc.collect()
    torch.cuda.empty_cache()


def _free(device: torch.device, gib: float) -> int:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    if not gib:
        return free
    return min(free, int(gib * 2**30) - torch.cuda.memory_reserved(device))
