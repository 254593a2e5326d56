"""The NF4 matrix product for small batches, compared with float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import Tensor, nn

from models.kernels.nf4_linear import SMALL_BATCH_ROWS, Nf4Linear, replace_linears
from models.kernels.nf4_product import LowRank, Nf4Matrix, dequantise, multiply

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

#: Outputs of each matrix, and inputs.
SHAPES = [
    ((4096, 1024, 1024), 4096),
    ((4096,), 14_336),
    ((576, 192, 192), 576),
    ((1536, 1536), 576),
    ((192,), 1536),
]
#: Relative to the result's norm: twice the error of rounding weights and result to bf16.
ERROR = 0.006


@pytest.fixture(autouse=True)
def _hopper() -> None:
    if torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("the product is used on Hopper only")


def random_rows(n_rows: int, n_inputs: int) -> Tensor:
    return torch.randn(n_rows, n_inputs, device="cuda", dtype=torch.bfloat16)


def random_matrices(outputs: Sequence[int], n_inputs: int) -> tuple[Nf4Matrix, list[Tensor]]:
    """NF4 matrices, and their dequantised weights in float64."""
    torch.manual_seed(0)
    weights = [
        torch.randn(n, n_inputs, device="cuda", dtype=torch.bfloat16) * 0.02 for n in outputs
    ]
    quantised = [quantize_4bit(each, quant_type="nf4", blocksize=64) for each in weights]
    matrix = Nf4Matrix.of([q for q, _ in quantised], [s.absmax for _, s in quantised], outputs)
    return matrix, [dequantize_4bit(*each).double() for each in quantised]


def error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("outputs", "n_inputs"), SHAPES)
@pytest.mark.parametrize("n_rows", [1, 5, 16, 17, 61, 64, 112, 122, 200])
def test_product_matches_float64(outputs: tuple[int, ...], n_inputs: int, n_rows: int) -> None:
    matrix, exact = random_matrices(outputs, n_inputs)
    rows = random_rows(n_rows, n_inputs)
    products = multiply(rows, matrix)
    for product, weights in zip(products, exact, strict=True):
        assert error(product, rows.double() @ weights.t()) < ERROR
    for _ in range(3):
        assert all(map(torch.equal, multiply(rows, matrix), products))


@pytest.mark.parametrize(("outputs", "n_inputs"), SHAPES)
def test_dequantised_matrices_match(outputs: tuple[int, ...], n_inputs: int) -> None:
    matrix, exact = random_matrices(outputs, n_inputs)
    for member, weights in enumerate(exact):
        written = dequantise(matrix.bytes_of(member), matrix.scales_of(member))
        assert error(written, weights) < ERROR / 2
        torch.testing.assert_close(written.double(), weights, rtol=2**-7, atol=0)


def random_adapters(outputs: Sequence[int], n_inputs: int, ranks: int) -> list[LowRank]:
    """One for each matrix; each product is about as large as the weights of `random_matrices`."""
    torch.manual_seed(1)
    options: Any = {"device": "cuda", "dtype": torch.bfloat16}
    return [
        LowRank.of(
            torch.randn(n, ranks, **options),
            torch.randn(ranks, n_inputs, **options) * 0.02 / ranks**0.5,
        )
        for n in outputs
    ]


@pytest.mark.parametrize("ranks", [16, 48])
@pytest.mark.parametrize(("outputs", "n_inputs"), SHAPES)
@pytest.mark.parametrize("n_rows", [2, 17, 61, 112, 200])
def test_low_rank_product_is_added_for_the_selected_ranks_of_each_row(
    outputs: tuple[int, ...], n_inputs: int, n_rows: int, ranks: int
) -> None:
    matrix, exact = random_matrices(outputs, n_inputs)
    adapters, rows = random_adapters(outputs, n_inputs, ranks), random_rows(n_rows, n_inputs)
    columns = torch.randint(2, (n_rows, 1, ranks), device="cuda").bfloat16()
    together = LowRank.of(
        torch.cat([a.up for a in adapters]), torch.cat([a.down for a in adapters])
    )
    products = multiply(rows, matrix, together.project_rows(rows, columns))
    for product, weights, adapter in zip(products, exact, adapters, strict=True):
        inner = (rows.double() @ adapter.down.double().t()) * columns[:, 0]
        wanted = rows.double() @ weights.t() + inner @ adapter.up.double().t()
        assert error(product, wanted) < ERROR
    for _ in range(3):
        again = multiply(rows, matrix, together.project_rows(rows, columns))
        assert all(map(torch.equal, again, products))


@pytest.mark.parametrize("ranks", [16, 48])
@pytest.mark.parametrize(("outputs", "n_inputs"), SHAPES)
def test_dequantised_matrices_with_a_low_rank_product_added(
    outputs: tuple[int, ...], n_inputs: int, ranks: int
) -> None:
    matrix, exact = random_matrices(outputs, n_inputs)
    # The second of two adjacent adapters is added
    sides = zip(
        random_adapters(outputs, n_inputs, 32),
        random_adapters(outputs, n_inputs, ranks),
        strict=True,
    )
    for member, (first, second) in enumerate(sides):
        up, down = torch.cat([first.up, second.up], dim=1), torch.cat([first.down, second.down])
        added = LowRank.of(up[:, 32:], down[32:])
        written = dequantise(matrix.bytes_of(member), matrix.scales_of(member), added)
        wanted = exact[member] + second.up.double() @ second.down.double()
        assert error(written, wanted) < ERROR


def quantised(n_outputs: int, n_inputs: int) -> nn.Sequential:
    torch.manual_seed(0)
    options = {"bias": False, "compute_dtype": torch.bfloat16, "quant_type": "nf4"}
    linear = Linear4bit(n_inputs, n_outputs, compress_statistics=False, **options)
    return nn.Sequential(linear).bfloat16().cuda().eval()


def test_layer_gives_the_same_result_for_small_and_large_batches() -> None:
    model = quantised(1024, 512)
    assert replace_linears(model) == 1
    assert isinstance(model[0], Nf4Linear)
    rows = random_rows(SMALL_BATCH_ROWS[-1] + 1, 512)
    with torch.no_grad():
        many = model(rows[None])[0]
        few = model(rows[:, None][:64])[:, 0]
    assert (few - many[:64]).norm() / many[:64].norm() < ERROR


def test_layer_with_an_unsupported_shape_is_not_replaced() -> None:
    model = quantised(1000, 512)
    assert replace_linears(model) == 0
    assert type(model[0]) is Linear4bit
