"""What the maker of an engine may decide."""

from __future__ import annotations

from dataclasses import dataclass

from models.kernels.paged_cache import CacheKind


@dataclass(frozen=True)
class EngineOptions:
    """How an engine uses its device. None and 0 leave the choice to the engine."""

    #: The longest request that can be admitted, prompt and answer together, in tokens.
    max_tokens: int | None = None
    slots: int | None = None
    #: Bytes of the GPU that PyTorch is held to, see models.engines.capacity.hold_to.
    memory_limit: int | None = None
    #: CPU threads of torch.
    threads: int = 0
    #: Keys and values in eight bits take half the memory and a little of the exactness.
    kv_cache: CacheKind = "bf16"
    graphs: bool = True
    #: Start a step before the last one's result is known.
    async_steps: bool = True
