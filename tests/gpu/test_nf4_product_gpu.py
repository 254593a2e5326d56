"""Our product of few rows with an NF4 matrix, against arithmetic in float64."""

from __future__ import annotations

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import Tensor, nn

from models.nf4_linear import FEW_ROWS, Nf4Linear, replace_linears
from models.nf4_product import multiply, pack_scales

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

SHAPES = [(4096, 4096), (1024, 4096), (4096, 14_336), (576, 576), (192, 576), (576, 1536)]
#: Of the result's norm: twice what rounding weights and result to bf16 costs.
ERROR = 0.006


@pytest.fixture(autouse=True)
def _hopper() -> None:
    if torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("the product is used on Hopper only")


def random_rows(n_rows: int, n_inputs: int) -> Tensor:
    return torch.randn(n_rows, n_inputs, device="cuda", dtype=torch.bfloat16)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_rows", [1, 5, 16, 17, 61, 64, 122, 200])
def test_a_product_is_right(shape: tuple[int, int], n_rows: int) -> None:
    torch.manual_seed(0)
    weights = torch.randn(shape, device="cuda", dtype=torch.bfloat16) * 0.02
    packed, state = quantize_4bit(weights, quant_type="nf4", blocksize=64)
    exact = dequantize_4bit(packed, state).double()
    scales = pack_scales(state.absmax, shape[0])
    rows = random_rows(n_rows, shape[1])
    product = multiply(rows, packed, scales)
    wanted = rows.double() @ exact.t()
    assert (product - wanted).norm() / wanted.norm() < ERROR
    for _ in range(3):
        assert torch.equal(multiply(rows, packed, scales), product)


def quantised(n_outputs: int, n_inputs: int) -> nn.Module:
    torch.manual_seed(0)
    options = {"bias": False, "compute_dtype": torch.bfloat16, "quant_type": "nf4"}
    linear = Linear4bit(n_inputs, n_outputs, compress_statistics=False, **options)
    return nn.Sequential(linear).bfloat16().cuda().eval()


def test_a_layer_gives_few_rows_and_many_the_same() -> None:
    model = quantised(1024, 512)
    assert replace_linears(model) == 1
    assert isinstance(model[0], Nf4Linear)
    rows = random_rows(FEW_ROWS[-1] + 1, 512)
    with torch.no_grad():
        many = model(rows[None])[0]
        few = model(rows[:, None][:64])[:, 0]
    assert (few - many[:64]).norm() / many[:64].norm() < ERROR


def test_a_layer_that_does_not_fit_stays_as_it_was() -> None:
    model = quantised(1000, 512)
    assert replace_linears(model) == 0
    assert type(model[0]) is Linear4bit
