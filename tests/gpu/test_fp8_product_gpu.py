"""FP8 products of prompts, compared with PyTorch's rounding and with float64."""

from __future__ import annotations

import pytest
import torch

from models.kernels.fp8 import FP8
from models.kernels.fp8_product import Fp8Rows, multiply, quantise_rows, unavailable
from models.kernels.nf4_product import LowRank, dequantise, dequantise_to_fp8
from models.kernels.paged_cache import CacheShape, PagedCache
from tests.gpu.test_nf4_product_gpu import (
    SHAPES,
    error,
    random_adapters,
    random_matrices,
    random_rows,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

#: Rounding both factors to three bits of mantissa, relative to the norm of the product.
ERROR = 0.045


@pytest.fixture(autouse=True)
def _fp8() -> None:
    if reason := unavailable(torch.device("cuda")):
        pytest.skip(reason)


def values(rows: Fp8Rows) -> torch.Tensor:
    return rows.values.double() * rows.scales.double()


@pytest.mark.parametrize("n_columns", [16, 576, 4096, 14_336])
def test_rows_are_rounded_as_pytorch_does(n_columns: int) -> None:
    rows = random_rows(300, n_columns) * torch.logspace(-6, 4, 300, device="cuda")[:, None]
    rows = rows.bfloat16()
    rows[7] = 0.0
    found = quantise_rows(rows)
    limit = rows.float().abs().amax(dim=1, keepdim=True)
    torch.testing.assert_close(found.scales * 448, limit.clamp(min=1e-12), rtol=1e-6, atol=0)
    wanted = (rows.float() * (1 / found.scales)).to(FP8)
    assert (found.values.float() != wanted.float()).float().mean() < 1e-4


@pytest.mark.parametrize(("outputs", "n_inputs"), SHAPES)
@pytest.mark.parametrize("ranks", [0, 16, 48])
def test_weights_are_those_in_bf16_rounded(
    outputs: tuple[int, ...], n_inputs: int, ranks: int
) -> None:
    matrix, _ = random_matrices(outputs, n_inputs)
    adapters = random_adapters(outputs, n_inputs, ranks) if ranks else [None] * len(outputs)
    for member, added in enumerate(adapters):
        stored = matrix.bytes_of(member), matrix.scales_of(member)
        exact = dequantise(*stored, added)
        found = dequantise_to_fp8(*stored, matrix.limits_of(member), added)
        limit = exact.float().abs().amax(dim=1, keepdim=True)
        # The bound is met without an adapter, and loose with one.
        assert (found.scales * 448 >= limit * 0.99).all()
        assert (found.scales * 448 <= limit * (1.01 if added is None else 40)).all()
        wanted = (exact.float() * (1 / found.scales)).to(FP8)
        assert (found.values.float() != wanted.float()).float().mean() < 1e-3
        assert error(values(found), exact.double()) < ERROR


@pytest.mark.parametrize(("outputs", "n_inputs"), SHAPES)
@pytest.mark.parametrize("n_rows", [257, 1000, 9001])
def test_product_matches_float64(outputs: tuple[int, ...], n_inputs: int, n_rows: int) -> None:
    matrix, exact = random_matrices(outputs, n_inputs)
    rows = quantise_rows(random_rows(n_rows, n_inputs))
    for member, weights in enumerate(exact):
        stored = matrix.bytes_of(member), matrix.scales_of(member)
        rounded = dequantise_to_fp8(*stored, matrix.limits_of(member))
        product = multiply(rows, rounded)
        # Of the rounded factors, then of the exact weights.
        assert error(product, values(rows) @ values(rounded).t()) < 0.006
        assert error(product, values(rows) @ weights.t()) < ERROR
        assert torch.equal(product, multiply(rows, rounded))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_stays_in_its_row(bad: float) -> None:
    rows, weights = random_rows(300, 576), quantise_rows(random_rows(64, 576))
    rows[17, 5] = bad
    product = multiply(quantise_rows(rows), weights)
    assert product[17].isnan().all()
    assert product[:17].isfinite().all()
    assert product[18:].isfinite().all()


def test_an_adapter_larger_than_the_weights_is_not_clipped() -> None:
    matrix, _ = random_matrices((4096,), 1024)
    up = torch.randn(4096, 16, device="cuda").bfloat16()
    added = LowRank.of(up, torch.randn(16, 1024, device="cuda").bfloat16())
    stored = matrix.bytes_of(0), matrix.scales_of(0)
    found = dequantise_to_fp8(*stored, matrix.limits_of(0), added)
    assert error(values(found), dequantise(*stored, added).double()) < ERROR


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize(("n_heads", "dim"), [(8, 128), (3, 64)])
def test_a_cache_is_written_as_pytorch_writes_it(bad: float, n_heads: int, dim: int) -> None:
    shape = CacheShape(2, n_heads, dim, FP8, torch.device("cuda"))
    pools = []
    for fused in (True, False):
        torch.manual_seed(0)
        cache = PagedCache(shape, n_blocks=9, block_tokens=256, slots=3, max_tokens=700)
        assert cache._fused_store
        cache._fused_store = fused
        for slot in range(3):
            cache.reserve(slot, 700)
            keys, values = torch.randn(2, 600, n_heads, dim, device="cuda").bfloat16() * 3
            cache.write_prompt(1, slot, cache.slot_mapping(slot, 600), keys, values)
        # Of the first row two tokens, as views of one tensor
        step = torch.randn(4, n_heads, 2, dim, device="cuda").bfloat16()
        step[1, 0, :, 5] = bad
        rows = torch.tensor([0, 1, 2, 0], device="cuda")
        positions = torch.tensor([600, 600, 600, 601], device="cuda")
        mapping = cache.step_slot_mapping(rows, positions, rows >= 0)
        cache.write_step(1, mapping, step[:, :, 0], step[:, :, 1], rows)
        pools.append((cache.keys, cache.values, cache.kv_scales))
    for found, wanted in zip(*pools, strict=True):
        assert found is not None
        assert wanted is not None
        assert torch.equal(found.float().nan_to_num(7e5), wanted.float().nan_to_num(7e5))
