"""Decodes many requests together, one sampled token of each a step.

Everything that a step needs lives on the device in tensors of fixed shape, one row a slot. The host
writes a row when a request enters or leaves and reads which rows have ended, so a step can be
captured in a CUDA graph and the next one started before the last one is known.

Tokens that the grammar forces need no scores: a step reads a few of them along with the token that
was sampled last, and samples the token after them. They take no steps of their own, and every token
is what it would be without this.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from models.adapters.adapter_bank import AdapterBank
from models.grammar.logits_processors import SamplingMode, SamplingRows, sample_tokens
from models.grammar.token_tables import (
    MAX_FORCED,
    NODE,
    POSITION,
    GrammarTables,
    advance,
    initial_state,
)
from models.kernels.attention_selection import SelectedAttention
from models.kernels.decode_attention import FurtherTokens
from models.kernels.nf4_tiling import ROW_TILES
from models.kernels.paged_attention import (
    DecodePlan,
    PrefillDone,
    PrefillPlan,
    not_finite,
)
from models.kernels.paged_cache import PagedCache
from models.kernels.prompt_arithmetic import PromptArithmetic
from models.kernels.transfer import set_entry, side_stream, upload
from models.text.generation import GenerationRequest


@dataclass(frozen=True)
class CausalModel:
    """Forward passes of a transformers causal language model."""

    causal: Any

    def read(self, ids: Tensor, plan: PrefillPlan) -> None:
        """Store the keys and values of a prompt, int64 [token], as the plan says."""
        positions = torch.arange(len(ids), device=ids.device)
        with suppress(PrefillDone):
            self.causal.model(
                input_ids=ids[None], position_ids=positions[None], use_cache=False, paged=plan
            )

    @property
    def n_query_heads(self) -> int:
        """Heads of a layer's queries."""
        return int(self.causal.config.num_attention_heads)

    def hidden_states(self, ids: Tensor, positions: Tensor, plan: DecodePlan) -> Tensor:
        """Run the layers on a step's tokens, int64 [token]: [token, 1, hidden]."""
        states: Tensor = self.causal.model(
            input_ids=ids[:, None], position_ids=positions[:, None], use_cache=False, paged=plan
        ).last_hidden_state
        return states

    def scores(self, hidden: Tensor) -> Tensor:
        """Score every token as the next one of each row: float32 [row, vocabulary].

        `hidden` is [row, 1, hidden], of each row's last token.
        Scores are not rounded to bf16 on the way: around 16 its steps are an eighth, and nearly
        equal scores would become equal.
        """
        head, on_gpu = self.causal.lm_head, hidden.is_cuda and hidden.dtype == torch.bfloat16
        if on_gpu and type(head) is nn.Linear and head.bias is None:
            return torch.mm(hidden[:, 0], head.weight.T, out_dtype=torch.float32)
        scores: Tensor = head(hidden)[:, 0]
        return scores.float()


class StepResult:
    """State of the rows after a step, copied to the host asynchronously."""

    def __init__(self, live: Tensor, non_finite: Tensor) -> None:
        flags = torch.stack([live, non_finite])
        self._event: torch.cuda.Event | None = None
        if flags.is_cuda:
            self._flags = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
            self._flags.copy_(flags, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._flags = flags

    def read(self) -> tuple[list[bool], list[bool]]:
        """Which rows go on, and which had scores that are no numbers; waits for the step."""
        if self._event is not None:
            self._event.synchronize()
        live, non_finite = self._flags.tolist()
        return live, non_finite


@dataclass(frozen=True)
class _StepTokens:
    """What a step reads: one token of each row, and then further ones; tensors [token].

    `last` [row] is each row's last token.
    """

    id: Tensor
    position: Tensor
    live: Tensor
    row: Tensor
    last: Tensor
    further: FurtherTokens | None = None


@dataclass(frozen=True)
class _Step:
    """What a graph is recorded for: how many rows, and how much of sampling they need."""

    size: int
    sampling_mode: SamplingMode


class Decoder:
    """The slots of one model and its paged cache."""

    def __init__(
        self,
        model: CausalModel,
        tables: GrammarTables,
        cache: PagedCache,
        attention: SelectedAttention,
        bank: AdapterBank,
        arithmetic: PromptArithmetic,
        *,
        graphs: bool,
        forced_runs: bool = True,
    ) -> None:
        """`graphs` replays steps from CUDA graphs, one for each of `sizes` and sampling modes.

        `forced_runs` reads runs of forced tokens in one step.
        """
        self._model, self._tables, self._cache = model, tables, cache
        self._attention, self._bank, self._arithmetic = attention, bank, arithmetic
        slots, device = len(cache.tables), cache.tables.device
        self.sizes = _sizes(slots) if graphs else tuple(range(1, slots + 1))
        self._graphs: dict[_Step, torch.cuda.CUDAGraph] | None = {} if graphs else None
        self._graphs_layout = bank.layout
        #: Whether a step of so many rows always has so many tokens: as a graph must, and on a GPU
        #: also without graphs, since the sum of forced tokens is not known to the host.
        self._fixed_shapes = device.type == "cuda"
        self._pool: Any = torch.cuda.graph_pool_handle() if graphs else None
        self._token = torch.zeros(slots, dtype=torch.long, device=device)
        self._length = torch.zeros_like(self._token)
        self._live = torch.zeros(slots, dtype=torch.bool, device=device)
        self._non_finite = torch.zeros_like(self._live)
        self._rows = SamplingRows.idle(slots, tables)
        self._state = initial_state(self._rows.node)
        # One column more than any answer: rows that have ended write there until they leave.
        width = cache.tables.shape[1] * cache.block_tokens + 1
        self._answer = torch.zeros(slots, width, dtype=torch.int32, device=device)
        self._copy_stream = side_stream(device)
        group = model.n_query_heads // cache.n_kv_heads
        most = attention.step.most_queries(group) if forced_runs else 1
        #: Forced tokens of a row that a step reads at most.
        self._most_forced = min(most - 1, MAX_FORCED)
        self._sampling_modes = [SamplingMode.GREEDY] * slots

    def prefill(
        self, slot: int, request: GenerationRequest, prompt: tuple[int, ...], adapter: str | None
    ) -> None:
        """Read a prompt into the slot's cache, for which blocks are reserved.

        The prompt's last token is left to the first decode step, which then gives the first token
        of the answer like any other.
        """
        *ids, last = prompt
        row = SamplingRows.of([request], self._tables)
        slot_mapping = self._cache.slot_mapping(slot, len(ids))
        plan = PrefillPlan(
            self._attention.prompt, self._cache, slot, slot_mapping, self._non_finite[slot]
        )
        used = self._arithmetic.choose(request.arithmetic)
        with self._bank.for_prompt(adapter), self._arithmetic.use(used):
            self._model.read(upload(torch.tensor(ids), self._token.device), plan)
        self._set_row(slot, row, last, len(ids), adapter)
        self._sampling_modes[slot] = SamplingMode.of(request)

    def _set_row(
        self, slot: int, row: SamplingRows, token: int, length: int, adapter: str | None
    ) -> None:
        for field in fields(SamplingRows):
            getattr(self._rows, field.name)[slot] = getattr(row, field.name)[0]
        self._state[slot] = initial_state(row.node)[0]
        self._bank.select(slot, adapter)
        set_entry(self._token, slot, token)
        set_entry(self._length, slot, length)
        set_entry(self._live, slot, True)

    def clear_slot(self, slot: int) -> None:
        """Deactivate the slot's row and its adapter."""
        self._bank.select(slot, None)
        set_entry(self._live, slot, False)
        set_entry(self._length, slot, 0)
        self._sampling_modes[slot] = SamplingMode.GREEDY

    def answer(self, slot: int) -> list[int]:
        """The token ids of a slot whose row, a step said, has ended; its end token included.

        Does not wait for steps that were started since: they leave such a row as it is.
        """
        with self._copy_stream:
            n_tokens = int(self._state[slot, POSITION])
            ids: list[int] = self._answer[slot, :n_tokens].tolist()
        return ids

    def step(self, n_rows: int) -> StepResult:
        """Give each live one of the first rows its next token; does not wait for the device."""
        size = next(size for size in self.sizes if size >= n_rows)
        self._replay(_Step(size, max(self._sampling_modes)))
        return StepResult(self._live, self._non_finite)

    def warm_up(self, report: Callable[[int], None] = lambda _: None) -> None:
        """Capture all graphs, the largest first, so that the others fit its memory."""
        for size, sampling_mode in product(reversed(self.sizes), reversed(SamplingMode)):
            self._replay(_Step(size, sampling_mode))
            report(size)

    def _replay(self, step: _Step) -> None:
        """Run a step, from its graph if graphs are used; the first of its kind captures it."""
        if self._graphs is None:
            self._forward(step)
            return
        if self._graphs_layout != self._bank.layout:
            self._graphs.clear()
            # A pool dies with the last graph that was recorded in it.
            self._pool = torch.cuda.graph_pool_handle()
            self._graphs_layout = self._bank.layout
        if step not in self._graphs:
            self._graphs[step] = self._captured(step)
        else:
            self._graphs[step].replay()

    def _captured(self, step: _Step) -> torch.cuda.CUDAGraph:
        """Run a step eagerly, so that libraries initialise, then capture it without running it."""
        self._forward(step)
        graph = torch.cuda.CUDAGraph()
        collecting = gc.isenabled()
        # A capture fails if the garbage collector frees another graph during it.
        gc.disable()
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                self._forward(step)
        finally:
            if collecting:
                gc.enable()
        return graph

    def _forward(self, step: _Step) -> None:
        size = step.size
        rows = torch.arange(size, device=self._token.device)
        live, length = self._live[:size], self._length[:size]
        tokens = _StepTokens(self._token[:size], length, live, rows, rows)
        # What a row's first token reads of the cache, before further tokens make it longer.
        lengths = torch.where(live, length + 1, 1).int()
        if n_further := self._room_for_further(size):
            tokens = self._with_forced(tokens, lengths, n_further)
        plan = DecodePlan(
            self._attention.step,
            self._cache,
            rows=tokens.row,
            slot_mapping=self._cache.step_slot_mapping(tokens.row, tokens.position, tokens.live),
            lengths=lengths,
            further=tokens.further,
        )
        with self._bank.for_rows(size, None if tokens.further is None else tokens.row):
            hidden = self._model.hidden_states(tokens.id, tokens.position, plan)
        with self._bank.for_rows(size):
            scores = self._model.scores(hidden[tokens.last])
        self._sample(step, scores)

    def _room_for_further(self, size: int) -> int:
        """How many forced tokens a step of `size` rows can read beside one token of each."""
        if not self._most_forced:
            return 0
        if not self._fixed_shapes:
            return self._most_forced * size
        return n_further_tokens(size, self._most_forced)

    def _with_forced(self, tokens: _StepTokens, lengths: Tensor, room: int) -> _StepTokens:
        """Add the forced tokens that follow each row's token, `room` at most in all.

        Rows come in their order until there is no more room; what is left is read by later steps.
        The rows' states, lengths and answers are then those after these tokens.
        """
        size, tables = len(tokens.id), self._tables
        state, node = self._state[:size], self._state[:size, NODE]
        # One token less than the limit: the step samples one more.
        wanted = torch.minimum(
            tables.n_forced[node], self._rows.limit[:size] - state[:, POSITION] - 1
        )
        wanted = wanted.clamp(0, self._most_forced) * tokens.live
        n_further = torch.minimum((room - (wanted.cumsum(0) - wanted)).clamp(min=0), wanted)
        ends = n_further.cumsum(0)
        if not self._fixed_shapes:
            room = int(ends[-1])
        if not room:
            return tokens
        index = torch.arange(room, device=ends.device)
        row = torch.searchsorted(ends, index, right=True)
        used, row = row < size, row.clamp(max=size - 1)
        number = (index - (ends - n_further)[row]).clamp(0, self._most_forced - 1)
        token = tables.forced[node[row], number]
        self._write_answers(row, torch.where(used, state[row, POSITION] + number, -1), token)
        totals = lengths + n_further.int()
        further = FurtherTokens(
            n_further=n_further.int(),
            first_further=(size + ends - n_further).int(),
            totals=torch.cat([totals, totals[row] * used]),
            most=self._most_forced,
        )
        # Behind a row's last position the cache may have no block.
        further_position = torch.where(used, tokens.position[row] + 1 + number, 0)
        # Before the lengths change: the rows' positions are a view of them.
        position = torch.cat([tokens.position, further_position])
        self._state[:size, NODE] = tables.after_forced[node, n_further]
        self._state[:size, POSITION] += n_further
        self._length[:size] += n_further
        return _StepTokens(
            id=torch.cat([tokens.id, token]),
            position=position,
            live=torch.cat([tokens.live, used]),
            row=torch.cat([tokens.row, row]),
            last=torch.where(n_further > 0, size + ends - 1, tokens.last),
            further=further,
        )

    def _write_answers(self, row: Tensor, position: Tensor, token: Tensor) -> None:
        """Store tokens [n] of rows at positions of their answers; -1 is the unused last column."""
        width = self._answer.shape[1]
        place = row * width + torch.where(position < 0, width - 1, position)
        self._answer.view(-1).index_copy_(0, place, token.int())

    def _sample(self, step: _Step, scores: Tensor) -> None:
        """Sample each row's token and store it; inactive rows do not change."""
        size = step.size
        live, state = self._live[:size].clone(), self._state[:size]
        rows = self._rows.first(size)
        non_finite = self._non_finite[:size].logical_or_(live & not_finite(scores))
        token = sample_tokens(self._tables, rows, state, scores, step.sampling_mode)
        self._answer[:size].scatter_(1, state[:, POSITION, None], token[:, None].int())
        after = torch.where(live[:, None], advance(self._tables, state, token), state)
        ended = (
            (token == self._tables.end_token_id) | (after[:, POSITION] >= rows.limit) | non_finite
        )
        self._token[:size] = torch.where(live, token, self._token[:size])
        self._length[:size] += live
        self._state[:size] = after
        self._live[:size] = live & ~ended


def n_further_tokens(n_rows: int, most: int) -> int:
    """How many further tokens a graph of `n_rows` rows reads, at most `most` of a row.

    As many as the products' tile has room for, if it has room for at least one row in sixteen: in
    Llama 3.1's grammar for seven aspects a seventh of all tokens is forced, and a row of the tile
    without a token costs as much as one with.
    """
    least = max(most, n_rows // 16)
    tile = next((size for size in ROW_TILES if size >= n_rows + least), 0)
    return max(0, min(tile - n_rows, most * n_rows))


def _sizes(slots: int) -> tuple[int, ...]:
    """Numbers of rows that have a graph: a graph costs memory, an empty row a little time."""
    powers = [1 << power for power in range(slots.bit_length()) if 1 << power < slots]
    return (*powers, slots)
