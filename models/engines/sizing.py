"""How many requests fit beside a loaded model: tries its longest prefill."""

from __future__ import annotations

import torch

from models.engines.capacity import Capacity, cpu_capacity, gpu_capacity
from models.engines.decoder import CausalModel
from models.kernels.paged_attention import AttentionKernel, PrefillPlan
from models.kernels.paged_cache import CacheShape, PagedCache
from models.weights.loading import LoadedModel


def measure(
    loaded: LoadedModel,
    shape: CacheShape,
    kernel: AttentionKernel,
    *,
    max_tokens: int,
    slots: int | None,
    memory_limit: int | None,
) -> Capacity:
    """Size the cache for requests of up to `max_tokens` tokens on the model's device.

    `memory_limit` is what PyTorch is held to on a GPU, in bytes. MissingPart when not even one
    longest request fits.
    """
    if loaded.device.type == "cpu":
        return cpu_capacity(max_tokens, kernel.block_tokens, slots)
    return gpu_capacity(
        shape,
        max_tokens=max_tokens,
        block_tokens=kernel.block_tokens,
        prefill_bytes=_prefill_bytes(loaded, shape, kernel, max_tokens),
        vocabulary=loaded.model.config.vocab_size,
        slots=slots,
        memory_limit=memory_limit,
    )


def _prefill_bytes(
    loaded: LoadedModel, shape: CacheShape, kernel: AttentionKernel, n_tokens: int
) -> int:
    """Run the longest prefill once and see what it takes beside the weights and the cache."""
    device = loaded.device
    cache = PagedCache(
        shape,
        n_blocks=-(-n_tokens // (kernel.block_tokens or n_tokens)),
        block_tokens=kernel.block_tokens or n_tokens,
        slots=1,
        max_tokens=n_tokens,
    )
    cache.reserve(0, n_tokens)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    ids = torch.zeros(n_tokens, dtype=torch.long, device=device)
    non_finite = torch.zeros((), dtype=torch.bool, device=device)
    plan = PrefillPlan(kernel, cache, 0, cache.slot_mapping(0, n_tokens), non_finite)
    CausalModel(loaded.model).read(ids, plan)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
