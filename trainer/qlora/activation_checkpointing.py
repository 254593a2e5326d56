"""Activation checkpointing: which activations are stored for the backward pass.

A block has one of three modes: `stored` keeps all that its backward pass reads; `attention` keeps
the block's input and attention's output and recomputes the rest, except the last product; `input`
keeps only the input. A plan uses the fastest modes that fit into memory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

RecomputeMode = Literal["stored", "attention", "input"]

#: Reserved for libraries' workspaces and fragmentation.
MARGIN_BYTES = 600 << 20


@dataclass(frozen=True)
class BlockShape:
    """The dimensions that determine the size of a block's activations."""

    n_blocks: int
    hidden: int
    inner: int
    queries: int
    keys: int
    #: Bytes of a value.
    width: int
    dora: bool = False

    def saved_bytes(self, mode: RecomputeMode, n_tokens: int) -> int:
        """Bytes that a block in this mode holds until its backward pass."""
        channels = {
            "input": self.hidden,
            "attention": self.hidden + self.queries,
            # Input, rotated query and key, value, attention's output, the middle, gate and up.
            "stored": 2 * self.hidden + 2 * self.queries + 2 * self.keys + 2 * self.inner,
        }[mode]
        if mode == "stored" and self.dora:
            channels += self.queries + self.keys + 2 * self.hidden
        return channels * n_tokens * self.width

    def temporary_bytes(self, n_tokens: int) -> int:
        """Peak of temporary bytes in one block's backward pass, recomputation included."""
        channels = 4 * self.inner + 8 * self.hidden + 2 * self.queries
        if self.dora:
            channels += 3 * self.inner
        return channels * n_tokens * self.width + 2 * self.hidden * self.inner * self.width


@dataclass(frozen=True)
class RecomputePlan:
    """Number of blocks in each mode; the last blocks are stored: their memory is freed first."""

    input: int
    attention: int
    stored: int
    #: Weights are dequantised once instead of at every use.
    dense: bool = False

    def mode(self, block: int) -> RecomputeMode:
        """The mode of block number `block`."""
        if block < self.input:
            return "input"
        return "attention" if block < self.input + self.attention else "stored"

    def with_less_memory(self) -> RecomputePlan | None:
        """A plan that needs less memory; None when there is none."""
        if self.dense:
            return replace(self, dense=False)
        if self.stored:
            moved = max(1, self.stored // 8)
            return replace(self, attention=self.attention + moved, stored=self.stored - moved)
        if self.attention:
            moved = max(1, self.attention // 8)
            return replace(self, input=self.input + moved, attention=self.attention - moved)
        return None

    def __str__(self) -> str:
        kept = f"{self.stored} blocks stored, {self.attention} recomputed but for attention, "
        dense = ", weights dequantised once" if self.dense else ""
        return f"{kept}{self.input} recomputed{dense}"


def make_plan(shape: BlockShape, n_tokens: int, free_bytes: int, dense_bytes: int) -> RecomputePlan:
    """The fastest plan for samples of `n_tokens` with `free_bytes` beside weights and optimiser.

    `dense_bytes` is the size of all dequantised weights.
    """
    room = free_bytes - MARGIN_BYTES - shape.temporary_bytes(n_tokens)
    stored, attention, alone = (
        shape.saved_bytes(mode, n_tokens) for mode in ("stored", "attention", "input")
    )
    n = shape.n_blocks
    n_stored = max(0, min(n, (room - n * attention) // (stored - attention)))
    if n_stored:
        dense = room - n * stored >= dense_bytes
        return RecomputePlan(0, n - n_stored, n_stored, dense=dense)
    n_attention = max(0, min(n, (room - n * alone) // (attention - alone)))
    return RecomputePlan(n - n_attention, n_attention, 0)
