"""How many requests fit beside a loaded model: tries its longest prefill. Knows no request."""

from __future__ import annotations

import torch

from models.capacity import Capacity, cpu_capacity, gpu_capacity
from models.decoder import Model
from models.loading import LoadedModel
from models.paged_attention import Kernel, PrefillPlan
from models.paged_cache import CacheShape, PagedCache


def measure(
    loaded: LoadedModel,
    shape: CacheShape,
    kernel: Kernel,
    *,
    max_tokens: int,
    slots: int | None,
    memory_limit: int | None,
) -> Capacity:
    """Size the cache for requests of up to `max_tokens` tokens on the model's device.

    PyTorch is held to `memory_limit` bytes of a GPU from now on. MissingPart when not even one
    longest request fits.
    """
    if loaded.device.type == "cpu":
        return cpu_capacity(max_tokens, kernel.block_tokens, slots)
    if memory_limit is not None:
        _hold_to(memory_limit)
    return gpu_capacity(
        shape,
        max_tokens=max_tokens,
        block_tokens=kernel.block_tokens,
        prefill_bytes=_prefill_bytes(loaded, shape, kernel, max_tokens),
        vocabulary=loaded.model.config.vocab_size,
        slots=slots,
        memory_limit=memory_limit,
    )


def _hold_to(limit: int) -> None:
    """At the limit PyTorch gives back what it only caches, before it is out of memory."""
    total = torch.cuda.get_device_properties().total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))


def _prefill_bytes(loaded: LoadedModel, shape: CacheShape, kernel: Kernel, n_tokens: int) -> int:
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
    plan = PrefillPlan(kernel, cache, 0, cache.places(0, n_tokens))
    Model(loaded.model).read(ids, plan)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
