"""Random paged caches for tests of decode attention, and their attention in float32."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from models.kernels.decode_attention import BLOCK_TOKENS, FurtherTokens, attend_cache
from models.kernels.fp8 import FP8

#: Tokens of a step that no row has.
PADDING = 3


@dataclass(frozen=True)
class Case:
    """Arguments of `attend_cache`, but for the query, [row, token, head, dim]."""

    query: Tensor
    keys: Tensor
    values: Tensor
    tables: Tensor
    lengths: Tensor
    kv_scales: tuple[Tensor, Tensor] | None

    def rows(self, row: int) -> Case:
        """One row alone."""
        one = slice(row, row + 1)
        scales = self.kv_scales and (self.kv_scales[0][one], self.kv_scales[1][one])
        return replace(
            self,
            query=self.query[one],
            tables=self.tables[one],
            lengths=self.lengths[one],
            kv_scales=scales,
        )

    @property
    def scale(self) -> float:
        """That of Llama."""
        scale: float = self.query.shape[-1] ** -0.5
        return scale


def random_case(
    lengths: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    *,
    queries: int = 1,
    dim: int = 128,
    group: int = 4,
    kv_heads: int = 2,
) -> Case:
    """Rows whose blocks lie in random order; tokens that no query sees are NaN."""
    torch.manual_seed(0)
    computed = torch.float32 if dtype == torch.float32 else torch.bfloat16
    counts = [-(-(length + queries - 1) // BLOCK_TOKENS) for length in lengths]
    order = random.Random(0).sample(range(1, 1 + sum(counts)), sum(counts))
    size = (1 + sum(counts), BLOCK_TOKENS, kv_heads, dim)
    keys, values = (torch.randn(size, device=device, dtype=computed) for _ in range(2))
    kv_scales = None
    if dtype == FP8:
        # Every e4m3 number up to 448 occurs, subnormal ones too.
        keys, values = ((each * 60).clamp(-448, 448).to(FP8) for each in (keys, values))
        scales = torch.rand(2, len(lengths), kv_heads, device=device) * 0.02 + 0.01
        kv_scales = (scales[0], scales[1])
    tables = torch.zeros(len(lengths), max(counts), dtype=torch.int32)
    for row, (count, length) in enumerate(zip(counts, lengths, strict=True)):
        blocks = [order.pop() for _ in range(count)]
        tables[row, :count] = torch.tensor(blocks)
        used = (length + queries - 1) % BLOCK_TOKENS
        if used:
            for pool in (keys, values):
                pool[blocks[-1], used:] = float("nan")
    query = torch.randn(len(lengths), queries, group * kv_heads, dim, device=device, dtype=computed)
    lengths_tensor = torch.tensor(lengths, dtype=torch.int32, device=device)
    return Case(query, keys, values, tables.to(device), lengths_tensor, kv_scales)


def attended(case: Case, *, counts: Sequence[int] | None = None, ptx: bool = True) -> Tensor:
    """The result of our kernels, like the query.

    `counts` are how many query tokens of each row are given to them; the result of the others is
    that of PADDING tokens without a row.
    """
    n_rows = len(case.query)
    if counts is None:
        return _all_attended(case, ptx)
    given = [(row, token) for row in range(n_rows) for token in range(1, counts[row])]
    places = [*((row, 0) for row in range(n_rows)), *given]
    rows, tokens = (list(column) for column in zip(*places, strict=True))
    padding = case.query.new_ones(PADDING, *case.query.shape[2:])
    query = torch.cat([case.query[rows, tokens], padding])
    found = _attended(case, query, _further(case, counts, PADDING), ptx)
    result = torch.empty_like(case.query)
    result[:] = found[-1]
    result[rows, tokens] = found[:-PADDING]
    return result


def _all_attended(case: Case, ptx: bool) -> Tensor:
    """The result for all query tokens; may be captured in a CUDA graph if there is one a row."""
    n_rows, n_queries = case.query.shape[:2]
    if n_queries == 1:
        return _attended(case, case.query[:, 0], None, ptx)[:, None]
    query = torch.cat([case.query[:, 0], case.query[:, 1:].flatten(0, 1)])
    found = _attended(case, query, _further(case, [n_queries] * n_rows, 0), ptx)
    others = found[n_rows:].view(n_rows, n_queries - 1, *found.shape[1:])
    return torch.cat([found[:n_rows, None], others], dim=1)


def _attended(case: Case, query: Tensor, further: FurtherTokens | None, ptx: bool) -> Tensor:
    return attend_cache(
        query,
        case.keys,
        case.values,
        case.tables,
        case.lengths,
        case.kv_scales,
        case.scale,
        further=further,
        ptx=ptx,
    )


def _further(case: Case, counts: Sequence[int], padding: int) -> FurtherTokens:
    """The tokens beyond one of each row, and `padding` tokens without a row."""
    n_rows, device = len(counts), case.lengths.device
    number = torch.tensor(counts, device=device) - 1
    row = torch.arange(n_rows, device=device).repeat_interleave(number)
    totals = case.lengths + number.int()
    nothing = torch.zeros(padding, device=device, dtype=torch.int64)
    return FurtherTokens(
        n_further=number.int(),
        first_further=(n_rows + number.cumsum(0) - number).int(),
        totals=torch.cat([totals, totals[row], nothing.int()]),
        most=case.query.shape[1] - 1,
    )


def expected(case: Case) -> Tensor:
    """The result in float32, row by row."""
    rows = []
    n_queries, group = case.query.shape[1], case.query.shape[2] // case.keys.shape[2]
    for row, length in enumerate(case.lengths.tolist()):
        n_tokens = length + n_queries - 1
        blocks = case.tables[row, : -(-n_tokens // BLOCK_TOKENS)].long()
        key, value = (
            pool[blocks].flatten(0, 1)[:n_tokens].float() for pool in (case.keys, case.values)
        )
        if case.kv_scales is not None:
            key, value = (
                each * scale[row, :, None]
                for each, scale in zip((key, value), case.kv_scales, strict=True)
            )
        key, value = (each.repeat_interleave(group, 1) for each in (key, value))
        scores = torch.einsum("qhd,khd->qhk", case.query[row].float(), key) * case.scale
        token = torch.arange(n_tokens, device=key.device)
        seen = length + torch.arange(n_queries, device=key.device)
        scores = scores.masked_fill((token >= seen[:, None])[:, None], float("-inf"))
        rows.append(torch.einsum("qhk,khd->qhd", scores.softmax(-1), value))
    return torch.stack(rows)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Relative to the norm."""
    return float((found.float() - wanted).norm() / wanted.norm())
