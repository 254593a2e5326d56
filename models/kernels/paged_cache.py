"""KV cache of many requests in blocks of one pool.

A request's blocks are reserved for its longest possible answer when it is admitted, so that none is
evicted or refused later (paged attention: Kwon et al. 2023, arXiv:2309.06180, without its
growth on demand).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, log2
from typing import Any, Literal

import torch
from torch import Tensor
from torch.linalg import vector_norm

from models.kernels.fp8 import FP8, LARGEST_FP8
from models.kernels.fp8_product import store_in_units, unavailable
from models.kernels.transfer import upload

#: `bf16` keeps keys and values as the model computes them, in whatever type that is.
CacheKind = Literal["bf16", "fp8"]
#: An answer's keys and values may be this much larger than the prompt's before they are clipped.
HEADROOM = 2.0
#: A head whose prompt is all zeros still needs a unit that can be divided by.
_MIN_SCALE = 1e-12
#: Keys and values are stored in words: indexing moves element by element, and knows no float8.
_WORD, _WORD_BYTES = torch.int64, 8
#: The pool's first block is unassigned: rows without a request read and write it.
SCRATCH = 0


@dataclass(frozen=True)
class CacheShape:
    """The size of one token in the cache of a model."""

    n_layers: int
    n_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device
    #: What the model computes keys and values in.
    compute_dtype: torch.dtype = torch.bfloat16

    def __post_init__(self) -> None:
        if self.head_dim * self.dtype.itemsize % _WORD_BYTES:
            raise ValueError(
                f"a head of {self.head_dim} numbers in {self.dtype} is not whole words"
            )

    @classmethod
    def of(cls, model: Any, kind: CacheKind = "bf16") -> CacheShape:
        """Read a causal language model's configuration."""
        config = model.config
        head_dim = getattr(config, "head_dim", None)
        return cls(
            n_layers=config.num_hidden_layers,
            n_heads=config.num_key_value_heads,
            head_dim=head_dim or config.hidden_size // config.num_attention_heads,
            dtype=FP8 if kind == "fp8" else model.dtype,
            device=model.device,
            compute_dtype=model.dtype,
        )

    @property
    def is_fp8(self) -> bool:
        """Whether keys and values are kept in eight bits."""
        return self.dtype == FP8

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of all layers."""
        return 2 * self.n_layers * self.n_heads * self.head_dim * self.dtype.itemsize


@dataclass(frozen=True)
class HadamardRotation:
    """Hadamard's matrix [dim, dim] on keys and on queries: no product of the two changes by it.

    It spreads what some channels hold more of than others over all of them, and so halves what
    rounding to eight bits does to the next token's probabilities (compare Shah et al. 2024,
    arXiv:2407.08608, section 3.3).
    """

    key_matrix: Tensor
    query_matrix: Tensor

    @classmethod
    def of(cls, shape: CacheShape) -> HadamardRotation | None:
        """None for heads whose width is no power of two, which have no such matrix."""
        width = shape.head_dim
        if width & (width - 1):
            return None
        signs = torch.ones(1, 1, dtype=torch.float64)
        while len(signs) < width:
            signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
        # Two powers of two whose product is 1 / width: exact in every type.
        down = 2.0 ** -ceil(log2(width) / 2)
        parts = (signs * down, signs / (width * down))
        return cls(*(part.to(shape.device, shape.compute_dtype) for part in parts))


class PagedCache:
    """A pool of blocks and, for each slot, the table of the blocks that its request holds.

    `keys` and `values` are [layer, block, token in block, head, dim]; `tables` is int32
    [slot, blocks of the longest request] on the device, unused entries point to SCRATCH. In eight
    bits, `kv_scales` float32 [2, layer, slot, head] are what stored keys and values are multiples
    of, set by each request's prompt; else it is None. Keys in eight bits are stored rotated.
    """

    def __init__(
        self, shape: CacheShape, *, n_blocks: int, block_tokens: int, slots: int, max_tokens: int
    ) -> None:
        """`max_tokens` is the longest request, prompt and answer together."""
        self.block_tokens = block_tokens
        self.n_blocks = n_blocks
        size = (shape.n_layers, 1 + n_blocks, block_tokens, shape.n_heads, shape.head_dim)
        self.keys = torch.zeros(size, dtype=shape.dtype, device=shape.device)
        self.values = torch.zeros_like(self.keys)
        width = self.blocks_for(max_tokens)
        self.tables = torch.zeros(slots, width, dtype=torch.int32, device=shape.device)
        self.kv_scales: Tensor | None = None
        self._rotation: HadamardRotation | None = None
        self._fused_store = shape.is_fp8 and not unavailable(shape.device)
        if shape.is_fp8:
            self.kv_scales = torch.ones(
                2, shape.n_layers, slots, shape.n_heads, device=shape.device
            )
            self._rotation = HadamardRotation.of(shape)
        self._free = list(range(n_blocks, 0, -1))
        self._blocks: dict[int, list[int]] = {}

    @property
    def n_layers(self) -> int:
        """Layers of the model that keep something."""
        return len(self.keys)

    @property
    def n_kv_heads(self) -> int:
        """Heads of a layer's keys and values."""
        return self.keys.shape[3]

    def blocks_for(self, n_tokens: int) -> int:
        """Number of blocks for a request of that many tokens."""
        return ceil(n_tokens / self.block_tokens)

    def has_room(self, n_tokens: int) -> bool:
        """Whether the free blocks hold a whole request."""
        return self.blocks_for(n_tokens) <= len(self._free)

    def reserve(self, slot: int, n_tokens: int) -> None:
        """Reserve blocks for a whole request. ValueError, and no change, if too few are free."""
        needed = self.blocks_for(n_tokens)
        if needed > len(self._free):
            raise ValueError(f"{n_tokens} tokens take {needed} blocks, {len(self._free)} are free")
        blocks = [self._free.pop() for _ in range(needed)]
        self._blocks[slot] = blocks
        row = blocks + [SCRATCH] * (self.tables.shape[1] - needed)
        self.tables[slot] = upload(torch.tensor(row, dtype=torch.int32), self.tables.device)

    def release(self, slot: int) -> None:
        """Free a slot's blocks; work that was queued on the device before may still use them.

        That is safe as long as the next request's work is queued on the same stream.
        """
        self._free.extend(self._blocks.pop(slot))
        self.tables[slot].fill_(SCRATCH)

    def first_block(self, slot: int) -> int:
        """Give the first block that a slot holds, SCRATCH if it holds none."""
        return self._blocks.get(slot, [SCRATCH])[0]

    def slot_mapping(self, slot: int, n_tokens: int) -> Tensor:
        """Where a request's first tokens lie: int64 [n_tokens], for `write`."""
        positions = torch.arange(n_tokens, device=self.tables.device)
        blocks = self.tables[slot].long()[positions // self.block_tokens]
        return blocks * self.block_tokens + positions % self.block_tokens

    def step_slot_mapping(self, rows: Tensor, positions: Tensor, live: Tensor) -> Tensor:
        """Where tokens at `positions` of `rows` [token] lie; SCRATCH for tokens that are not live.

        All are int64, and so is the result.
        """
        blocks = self.tables[rows, positions // self.block_tokens].long()
        slot_mapping = blocks * self.block_tokens + positions % self.block_tokens
        return torch.where(live, slot_mapping, SCRATCH)

    def write_prompt(
        self, layer: int, slot: int, slot_mapping: Tensor, keys: Tensor, values: Tensor
    ) -> None:
        """Store keys and values [n, head, dim] of a slot's prompt at `slot_mapping` [n]."""
        keys = self._rotated(keys)
        if self.kv_scales is None:
            self._store(layer, slot_mapping, keys, values)
            return
        scales = self.kv_scales[:, layer, slot]
        for each, tensor in zip(scales, (keys, values), strict=True):
            largest = vector_norm(tensor, inf, dim=(0, 2), dtype=torch.float32)
            each.copy_((largest * HEADROOM / LARGEST_FP8).clamp(min=_MIN_SCALE))
        self._store_fp8(layer, slot_mapping, keys, values, scales[:, None], None)

    def write_step(
        self, layer: int, slot_mapping: Tensor, keys: Tensor, values: Tensor, rows: Tensor
    ) -> None:
        """Store keys and values [token, head, dim] of tokens of `rows`, int64 [token]."""
        keys = self._rotated(keys)
        if self.kv_scales is None:
            self._store(layer, slot_mapping, keys, values)
        else:
            self._store_fp8(layer, slot_mapping, keys, values, self.kv_scales[:, layer], rows)

    def rotate_query(self, query: Tensor) -> Tensor:
        """Turn a query [..., dim] as stored keys are turned, so that products stay the same."""
        return query if self._rotation is None else query @ self._rotation.query_matrix

    def kv_scales_of(self, layer: int, n_rows: int) -> tuple[Tensor, Tensor] | None:
        """The scales of the first slots' keys and values, each [row, head]."""
        if self.kv_scales is None:
            return None
        keys, values = self.kv_scales[:, layer, :n_rows]
        return keys, values

    def _rotated(self, keys: Tensor) -> Tensor:
        return keys if self._rotation is None else keys @ self._rotation.key_matrix

    def _store(self, layer: int, slot_mapping: Tensor, keys: Tensor, values: Tensor) -> None:
        for pool, tensor in ((self.keys, keys), (self.values, values)):
            tokens = pool[layer].view(-1, *tensor.shape[1:])
            tokens.view(_WORD).index_copy_(0, slot_mapping, tensor.view(_WORD))

    def _store_fp8(
        self,
        layer: int,
        slot_mapping: Tensor,
        keys: Tensor,
        values: Tensor,
        scales: Tensor,
        rows: Tensor | None,
    ) -> None:
        """Store in units of `scales` [2, row, head]; without `rows` all are of the first row."""
        if self._fused_store:
            pools = self.keys[layer], self.values[layer]
            store_in_units(keys, values, *pools, slot_mapping, scales, rows)
            return
        units = scales if rows is None else scales[:, rows]
        keys, values = (
            to_fp8(tensor / unit[..., None])
            for tensor, unit in zip((keys, values), units, strict=True)
        )
        self._store(layer, slot_mapping, keys, values)


def to_fp8(tensor: Tensor) -> Tensor:
    """Round to eight bits; what is too large is clipped, since the type would make it NaN."""
    return tensor.clamp(-LARGEST_FP8, LARGEST_FP8).to(FP8)
