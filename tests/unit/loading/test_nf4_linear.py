"""Which layers share a product, and who gets which of its results; the kernels run in tests/gpu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, get_4bit_type
from bitsandbytes.nn import Linear4bit
from torch import Tensor, nn

from models import nf4_linear
from models.adapter_bank import AdapterBank
from models.fusion import unnest_scales
from models.loading import load
from models.nf4_linear import Nf4Linear, replace_linears
from models.nf4_product import BLOCK_WEIGHTS, TABLE_FACTOR, Nf4Matrix
from models.precision import Precision
from tests.engine_cases import LLAMA31, write_adapters
from tests.small_models import write_tiny_llama

WIDTH = 128
OUTPUTS = {"q_proj": 192, "k_proj": 64, "v_proj": 64, "o_proj": 128}


class Attention(nn.Module):
    """Linear layers as a Llama names them."""

    def __init__(self) -> None:
        super().__init__()
        for name, n_outputs in OUTPUTS.items():
            options = {"bias": False, "compute_dtype": torch.bfloat16, "quant_type": "nf4"}
            linear = Linear4bit(WIDTH, n_outputs, compress_statistics=False, **options)
            self.add_module(name, linear)

    def forward(self, hidden: Tensor) -> list[Tensor]:
        return [layer(hidden) for layer in self.children()]


@pytest.fixture
def layers() -> nn.Module:
    torch.manual_seed(0)
    return Attention().bfloat16().to("cpu").eval()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The kernels' results, computed here; the outputs of each product that was asked for."""
    products: list[tuple[int, ...]] = []

    def multiply(rows: Tensor, matrix: Nf4Matrix) -> tuple[Tensor, ...]:
        products.append(matrix.outputs)
        members = range(len(matrix.outputs))
        return tuple(
            rows @ dequantise(matrix.bytes_of(m), matrix.scales_of(m)).t() for m in members
        )

    def dequantise(packed: Tensor, scales: Tensor) -> Tensor:
        absmax = ((scales & -65536).view(torch.float32) + (scales << 16).view(torch.float32)).t()
        shape = torch.Size([scales.shape[1], len(scales) * BLOCK_WEIGHTS])
        code = get_4bit_type("nf4", device="cpu")
        state = QuantState(
            absmax.flatten() * TABLE_FACTOR, shape, code, BLOCK_WEIGHTS, "nf4", torch.bfloat16
        )
        weights: Tensor = dequantize_4bit(packed[:, None], state)
        return weights

    monkeypatch.setattr(nf4_linear, "multiply", multiply)
    monkeypatch.setattr(nf4_linear, "dequantise", dequantise)
    return products


@torch.inference_mode()
def test_layers_that_read_the_same_rows_share_one_product(
    layers: nn.Module, counted: list[tuple[int, ...]]
) -> None:
    rows = torch.randn(5, 1, WIDTH, dtype=torch.bfloat16)
    plain = [
        rows @ dequantize_4bit(c.weight.data, c.weight.quant_state).t() for c in layers.children()
    ]
    assert replace_linears(layers) == len(OUTPUTS)
    assert all(type(layer) is Nf4Linear for layer in layers.children())
    counted.clear()
    for _ in range(2):  # the same rows again are multiplied again
        for result, wanted in zip(layers(rows), plain, strict=True):
            torch.testing.assert_close(result, wanted, rtol=2**-6, atol=2**-6)
    assert counted == [(192, 64, 64), (128,)] * 2


@torch.inference_mode()
def test_a_layer_that_is_asked_alone_gets_its_own_rows(
    layers: nn.Module, counted: list[tuple[int, ...]]
) -> None:
    replace_linears(layers)
    first, second = (torch.randn(5, 1, WIDTH, dtype=torch.bfloat16) for _ in range(2))
    wanted = {rows: layers.k_proj(rows.clone()) for rows in (first, second)}
    queries = layers.q_proj(first)
    assert torch.equal(layers.k_proj(second), wanted[second])
    assert torch.equal(layers.k_proj(first), wanted[first])
    assert torch.equal(layers.q_proj(first), queries)


@torch.inference_mode()
@pytest.mark.parametrize("adapted", [False, True])
def test_a_llamas_step_is_four_products_a_layer_whatever_adapters_its_rows_have(
    adapted: bool, tmp_path: Path, counted: list[tuple[int, ...]]
) -> None:
    folder = write_tiny_llama(tmp_path / "model", "llama31", hidden_size=512, num_attention_heads=4)
    adapters = write_adapters(folder, tmp_path) if adapted else {}
    ids, scores = torch.tensor([[10], [20], [30], [40]]), []
    for ours in (False, True):
        model = in_bf16(folder)
        assert not ours or replace_linears(model) == 14
        bank = AdapterBank(model, LLAMA31.base, len(ids))
        for slot, (sha256, path) in enumerate(adapters.items()):
            bank.attach(path, sha256)
            bank.choose(slot, sha256)
        with bank.for_rows(len(ids)):
            counted.clear()
            scores.append(model(ids).logits.float())
    assert len(counted) == 4 * 2
    assert (scores[0] - scores[1]).norm() < 0.01 * scores[0].norm()


def in_bf16(folder: Path) -> Any:
    """A model in NF4 that computes in bf16, as on a GPU, its scales as our product wants them."""
    model = load(
        folder,
        LLAMA31.base,
        template=LLAMA31.template,
        device=torch.device("cpu"),
        precision=Precision(torch.bfloat16, "as on a GPU"),
    ).model
    unnest_scales(model)
    return model


@torch.inference_mode()
def test_prompts_and_single_rows_get_what_few_rows_get(
    layers: nn.Module, counted: list[tuple[int, ...]]
) -> None:
    replace_linears(layers)
    rows = torch.randn(300, WIDTH, dtype=torch.bfloat16)
    many, few = layers(rows[None]), layers(rows[:8, None])
    for whole, part in zip(many, few, strict=True):
        torch.testing.assert_close(whole[0, :8], part[:, 0], rtol=2**-6, atol=2**-6)
    counted.clear()
    for single, part in zip(layers(rows[:1, None]), few, strict=True):
        torch.testing.assert_close(single[0], part[0], rtol=2**-6, atol=2**-6)
    assert not counted


def test_weights_are_what_they_were_for_whoever_reads_them(
    layers: nn.Module, counted: list[tuple[int, ...]]
) -> None:
    before = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    replace_linears(layers)
    after = layers.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
