"""Decodes many requests together, one token of each a step; knows nothing of queues or futures.

Everything that a step needs lives on the device in tensors of fixed shape, one row a slot. The host
writes a row when a request enters or leaves and reads which rows have ended, so a step can be
captured in a CUDA graph and the next one started before the last one is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from models.adapter_bank import AdapterBank
from models.engine import ReviewRequest
from models.grammar import POSITION, GrammarTables, advance, begin
from models.paged_attention import DecodePlan, Kernel, PrefillPlan
from models.paged_cache import PagedCache
from models.processors import Rows, choose


@dataclass(frozen=True)
class Model:
    """A causal language model in the two parts that a step calls."""

    body: Any
    head: Any

    @classmethod
    def of(cls, causal: Any) -> Model:
        """Take transformers' causal language model apart."""
        return cls(causal.model, causal.lm_head)


class RowsEnded:
    """What a step says about its rows, on its way to the host."""

    def __init__(self, live: Tensor, broken: Tensor) -> None:
        flags = torch.stack([live, broken])
        self._event: torch.cuda.Event | None = None
        if flags.is_cuda:
            self._flags = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
            self._flags.copy_(flags, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no types here
            self._event.record()
        else:
            self._flags = flags.clone()

    def read(self) -> tuple[list[bool], list[bool]]:
        """Which rows go on, and which had scores that are no numbers; waits for the step."""
        if self._event is not None:
            self._event.synchronize()
        live, broken = self._flags.tolist()
        return live, broken


class Decoder:
    """The slots of one model and its paged cache."""

    def __init__(
        self,
        model: Model,
        tables: GrammarTables,
        cache: PagedCache,
        kernel: Kernel,
        bank: AdapterBank,
        *,
        graphs: bool,
    ) -> None:
        """`graphs` replays a step from a CUDA graph, one for each number of rows in `sizes`."""
        self._model, self._tables, self._cache = model, tables, cache
        self._kernel, self._bank = kernel, bank
        slots, device = len(cache.tables), cache.tables.device
        self.sizes = _sizes(slots) if graphs else tuple(range(1, slots + 1))
        self._graphs: dict[int, torch.cuda.CUDAGraph] | None = {} if graphs else None
        self._graphs_for = bank.layout
        self._pool: Any = torch.cuda.graph_pool_handle() if graphs else None
        self._token = torch.zeros(slots, dtype=torch.long, device=device)
        self._length = torch.zeros_like(self._token)
        self._live = torch.zeros(slots, dtype=torch.bool, device=device)
        self._broken = torch.zeros_like(self._live)
        self._rows = Rows.idle(slots, tables)
        self._state = begin(self._rows.node)
        # One column more than any answer: rows that have ended write there until they leave.
        width = cache.tables.shape[1] * cache.block_tokens + 1
        self._answer = torch.zeros(slots, width, dtype=torch.int32, device=device)
        self._host_lengths = [0] * slots

    def enter(
        self, slot: int, request: ReviewRequest, prompt: tuple[int, ...], adapter: str | None
    ) -> None:
        """Read a prompt into the slot's cache, for which blocks are reserved.

        The prompt's last token is left to the first decode step, which then gives the first token
        of the answer like any other.
        """
        *ids, last = prompt
        device = self._token.device
        places = self._cache.places(slot, len(ids))
        plan = PrefillPlan(self._kernel, self._cache, slot, places)
        with self._bank.for_prompt(adapter):
            self._model.body(
                input_ids=torch.tensor([ids], device=device),
                position_ids=torch.arange(len(ids), device=device)[None],
                use_cache=False,
                paged=plan,
            )
        self._place(slot, request, last, len(ids), adapter)

    def leave(self, slot: int) -> None:
        """Let the slot's row rest."""
        self._live[slot] = False
        self._length[slot] = 0
        self._host_lengths[slot] = 0

    def answer(self, slot: int) -> list[int]:
        """The token ids that the slot's request has so far, its end token included."""
        n_tokens = int(self._state[slot, POSITION])
        ids: list[int] = self._answer[slot, :n_tokens].tolist()
        return ids

    def step(self, n_rows: int) -> RowsEnded:
        """Give each live one of the first rows its next token; does not wait for the device."""
        size = next(size for size in self.sizes if size >= n_rows)
        self._host_lengths = [n + 1 if n else 0 for n in self._host_lengths]
        with self._bank.for_rows(size):
            self._run(size)
        return RowsEnded(self._live, self._broken)

    def warm_up(self, report: Callable[[int], None] = lambda _: None) -> None:
        """Capture the graphs of all sizes, the largest first, so that the others fit its memory."""
        for size in reversed(self.sizes):
            with self._bank.for_rows(size):
                self._run(size)
            report(size)

    def _place(
        self, slot: int, request: ReviewRequest, token: int, length: int, adapter: str | None
    ) -> None:
        row = Rows.of([request], self._tables)
        for field in fields(Rows):
            getattr(self._rows, field.name)[slot] = getattr(row, field.name)[0]
        self._state[slot] = begin(row.node)[0]
        self._bank.choose(slot, adapter)
        self._token[slot] = token
        self._length[slot] = length
        self._broken[slot] = False
        self._live[slot] = True
        self._host_lengths[slot] = length

    def _run(self, size: int) -> None:
        if self._graphs is None:
            self._step(size)
            return
        if self._graphs_for != self._bank.layout:
            self._graphs.clear()
            # A pool dies with the last graph that was recorded in it.
            self._pool = torch.cuda.graph_pool_handle()
            self._graphs_for = self._bank.layout
        if size not in self._graphs:
            self._graphs[size] = self._capture(size)
        else:
            self._graphs[size].replay()

    def _capture(self, size: int) -> torch.cuda.CUDAGraph:
        """Run a step once as it is, for libraries that prepare themselves, and record it."""
        self._step(size)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            self._step(size)
        return graph

    def _step(self, size: int) -> None:
        live, position = self._live[:size], self._length[:size]
        plan = DecodePlan(
            self._kernel,
            self._cache,
            places=self._cache.next_places(size, position, live),
            lengths=torch.where(live, position + 1, 1).int(),
            host_lengths=[max(n, 1) for n in self._host_lengths[:size]],
        )
        hidden = self._model.body(
            input_ids=self._token[:size, None],
            position_ids=position[:, None],
            use_cache=False,
            paged=plan,
        ).last_hidden_state
        self._take(size, self._model.head(hidden)[:, 0].float())

    def _take(self, size: int, scores: Tensor) -> None:
        """Choose each row's token and write it down; rows that rest keep what they have."""
        live, state = self._live[:size].clone(), self._state[:size]
        rows = self._rows.first(size)
        broken = live & ~torch.isfinite(scores).all(dim=-1)
        token = choose(self._tables, rows, state, scores).argmax(dim=-1)
        self._answer[:size].scatter_(1, state[:, POSITION, None], token[:, None].int())
        after = torch.where(live[:, None], advance(self._tables, state, token), state)
        ended = (token == self._tables.end_token_id) | (after[:, POSITION] >= rows.limit) | broken
        self._token[:size] = torch.where(live, token, self._token[:size])
        self._length[:size] += live
        self._state[:size] = after
        self._broken[:size] |= broken
        self._live[:size] = live & ~ended


def _sizes(slots: int) -> tuple[int, ...]:
    """Numbers of rows that have a graph: a graph costs memory, an empty row a little time."""
    powers = [1 << power for power in range(slots.bit_length()) if 1 << power < slots]
    return (*powers, slots)
