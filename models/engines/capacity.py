"""How many requests a device holds at once.

The cache gets what weights and the longest prefill leave. Requests differ in length, so there are
more slots than longest requests: one that finds no free blocks waits, and none is ever evicted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil

import torch

from errors import MissingPart
from models.engines.decoder import CausalModel
from models.kernels.attention_selection import SelectedAttention
from models.kernels.paged_attention import PrefillPlan
from models.kernels.paged_cache import CacheShape, PagedCache
from models.kernels.prompt_arithmetic import PromptArithmetic
from models.weights.loading import LoadedModel

#: Requests on a CPU: a step's cost is mostly the weights', and four share it.
CPU_SLOTS = 4
#: The mean request over the longest: papers' median is 9,000 of 12,288 tokens.
MEAN_REQUEST_SHARE = 0.75
#: More rows than this are no faster: attention, which grows with them, is then all of a step.
MAX_SLOTS = 192
#: Kept free for CUDA graphs, libraries' workspaces and fragments: 1.5 GiB.
MARGIN_BYTES = 3 << 29
#: Bytes that a step's scores and their processing take per row and vocabulary entry.
SCORE_BYTES = 48
#: What is left of the blocks after an out-of-memory error.
OUT_OF_MEMORY_FACTOR = 0.85
_TOO_LITTLE_MEMORY = (
    "The GPU has too little free memory for the weights and the longest paper of this reviewer: "
    "use a larger card, or a reviewer with a smaller max_prompt_tokens."
)


@dataclass(frozen=True)
class Capacity:
    """Slots, and the blocks of the cache they share."""

    slots: int
    n_blocks: int
    block_tokens: int
    max_tokens: int

    def reduced(self) -> Capacity:
        """Fewer blocks and slots; MissingPart when the longest request would fit no more."""
        return replace(
            self,
            slots=max(1, int(self.slots * OUT_OF_MEMORY_FACTOR)),
            n_blocks=_check_blocks(int(self.n_blocks * OUT_OF_MEMORY_FACTOR), self.longest_blocks),
        )

    @property
    def longest_blocks(self) -> int:
        """Blocks of the longest request."""
        return ceil(self.max_tokens / self.block_tokens)


def measure(
    loaded: LoadedModel,
    shape: CacheShape,
    attention: SelectedAttention,
    arithmetic: PromptArithmetic,
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
        return cpu_capacity(max_tokens, attention.step.block_tokens, slots)
    return gpu_capacity(
        shape,
        max_tokens=max_tokens,
        block_tokens=attention.step.block_tokens,
        prefill_bytes=_prefill_bytes(loaded, shape, attention, arithmetic, max_tokens),
        vocabulary=loaded.model.config.vocab_size,
        slots=slots,
        memory_limit=memory_limit,
    )


def _prefill_bytes(
    loaded: LoadedModel,
    shape: CacheShape,
    attention: SelectedAttention,
    arithmetic: PromptArithmetic,
    n_tokens: int,
) -> int:
    """Run the longest prefill and see what it takes beside the weights and the cache."""
    device = loaded.device
    cache = PagedCache(
        shape,
        n_blocks=-(-n_tokens // (attention.step.block_tokens or n_tokens)),
        block_tokens=attention.step.block_tokens or n_tokens,
        slots=1,
        max_tokens=n_tokens,
    )
    cache.reserve(0, n_tokens)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    ids = torch.zeros(n_tokens, dtype=torch.long, device=device)
    non_finite = torch.zeros((), dtype=torch.bool, device=device)
    plan = PrefillPlan(attention.prompt, cache, 0, cache.slot_mapping(0, n_tokens), non_finite)
    for available in arithmetic.available:
        with arithmetic.use(available):
            CausalModel(loaded.model).read(ids, plan)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def cpu_capacity(max_tokens: int, block_tokens: int | None, slots: int | None) -> Capacity:
    """As many slots as asked for, each with room for the longest request."""
    slots = slots or CPU_SLOTS
    block_tokens = block_tokens or max_tokens
    return Capacity(slots, slots * ceil(max_tokens / block_tokens), block_tokens, max_tokens)


def gpu_capacity(
    shape: CacheShape,
    *,
    max_tokens: int,
    block_tokens: int | None,
    prefill_bytes: int,
    vocabulary: int,
    slots: int | None,
    memory_limit: int | None,
) -> Capacity:
    """Size the cache from the memory that is free on the device now, weights loaded.

    `prefill_bytes` is what the longest prefill takes beside the weights; `memory_limit` is what
    PyTorch is held to, in bytes. MissingPart when not even one longest request fits.
    """
    block_tokens = block_tokens or max_tokens
    longest = ceil(max_tokens / block_tokens)
    free = _free(shape.device, memory_limit) - prefill_bytes - MARGIN_BYTES
    block_bytes = shape.bytes_per_token * block_tokens
    row_bytes = int(block_bytes * longest * MEAN_REQUEST_SHARE) + vocabulary * SCORE_BYTES
    slots = min(slots or max(1, free // row_bytes), MAX_SLOTS)
    n_blocks = (free - slots * vocabulary * SCORE_BYTES) // block_bytes
    n_blocks = min(n_blocks, slots * longest)
    return Capacity(slots, _check_blocks(n_blocks, longest), block_tokens, max_tokens)


def limit_gpu_memory(limit: int | None) -> None:
    """Let PyTorch take no more than so many bytes of this process's GPU; None is all of it.

    At the limit it gives back what it only caches before it is out of memory.
    """
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties().total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (limit or total) / total))


@contextmanager
def missing_part_on_out_of_memory() -> Iterator[None]:
    """MissingPart instead of an out-of-memory error, after which a start cannot go on."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise MissingPart(_TOO_LITTLE_MEMORY) from None


def _free(device: torch.device, memory_limit: int | None) -> int:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    if memory_limit is None:
        return free
    return min(free, memory_limit - torch.cuda.memory_reserved(device))


def _check_blocks(n_blocks: int, longest: int) -> int:
    if n_blocks < longest:
        raise MissingPart(_TOO_LITTLE_MEMORY)
    return n_blocks
