"""Which layers share a product, and who gets which of its results; the kernels run in tests/gpu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, get_4bit_type
from bitsandbytes.nn import Linear4bit
from torch import Tensor, nn

from models.adapters.adapter_bank import AdapterBank
from models.kernels import nf4_linear
from models.kernels.device_support import Precision
from models.kernels.fusion import unnest_scales
from models.kernels.nf4_dequantise import TABLE_FACTOR
from models.kernels.nf4_linear import Nf4Linear, replace_linears
from models.kernels.nf4_product import LowRank, LowRankTerm, Nf4Matrix
from models.kernels.nf4_tiling import BLOCK_WEIGHTS
from models.weights.loading import load
from testing.small_models import write_tiny_llama
from tests.engine_cases import LLAMA31, write_adapters

WIDTH = 128
OUTPUTS = {"q_proj": 192, "k_proj": 64, "v_proj": 64, "o_proj": 128}


class Attention(nn.Module):
    """Linear layers as a Llama names them."""

    q_proj: nn.Module
    k_proj: nn.Module

    def __init__(self) -> None:
        super().__init__()
        for name, n_outputs in OUTPUTS.items():
            options = {"bias": False, "compute_dtype": torch.bfloat16, "quant_type": "nf4"}
            linear = Linear4bit(WIDTH, n_outputs, compress_statistics=False, **options)
            self.add_module(name, linear)

    def forward(self, hidden: Tensor) -> list[Tensor]:
        return [layer(hidden) for layer in self.children()]


@pytest.fixture
def layers() -> Attention:
    torch.manual_seed(0)
    return Attention().bfloat16().to("cpu").eval()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The kernels' results, computed here; the outputs of each product that was asked for."""
    products: list[tuple[int, ...]] = []

    def multiply(
        rows: Tensor, matrix: Nf4Matrix, added: LowRankTerm | None = None
    ) -> tuple[Tensor, ...]:
        products.append(matrix.outputs)
        results = []
        for m, n_outputs in enumerate(matrix.outputs):
            result = rows @ dequantise(matrix.bytes_of(m), matrix.scales_of(m)).t()
            if added is not None:
                start = sum(matrix.outputs[:m])
                result += added.inner[:, m] @ added.up[start : start + n_outputs].t()
            results.append(result)
        return tuple(results)

    def dequantise(packed: Tensor, scales: Tensor, added: LowRank | None = None) -> Tensor:
        absmax = ((scales & -65536).view(torch.float32) + (scales << 16).view(torch.float32)).t()
        shape = torch.Size([scales.shape[1], len(scales) * BLOCK_WEIGHTS])
        code = get_4bit_type("nf4", device="cpu")
        state = QuantState(
            absmax.flatten() * TABLE_FACTOR, shape, code, BLOCK_WEIGHTS, "nf4", torch.bfloat16
        )
        weights: Tensor = dequantize_4bit(packed[:, None], state)
        return weights if added is None else weights.addmm_(added.up, added.down)

    monkeypatch.setattr(nf4_linear, "multiply", multiply)
    monkeypatch.setattr(nf4_linear, "dequantise", dequantise)
    return products


@torch.inference_mode()
def test_layers_that_read_the_same_rows_share_one_product(
    layers: Attention, counted: list[tuple[int, ...]]
) -> None:
    rows = torch.randn(5, 1, WIDTH, dtype=torch.bfloat16)
    linears: list[Any] = [*layers.children()]
    plain = [rows @ dequantize_4bit(c.weight.data, c.weight.quant_state).t() for c in linears]
    assert replace_linears(layers) == len(OUTPUTS)
    assert all(type(layer) is Nf4Linear for layer in layers.children())
    counted.clear()
    for _ in range(2):  # the same rows again are multiplied again
        for result, wanted in zip(layers(rows), plain, strict=True):
            torch.testing.assert_close(result, wanted, rtol=2**-6, atol=2**-6)
    assert counted == [(192, 64, 64), (128,)] * 2


@torch.inference_mode()
def test_layer_called_separately_computes_its_own_rows(
    layers: Attention, counted: list[tuple[int, ...]]
) -> None:
    replace_linears(layers)
    first, second = (torch.randn(5, 1, WIDTH, dtype=torch.bfloat16) for _ in range(2))
    wanted = {rows: layers.k_proj(rows.clone()) for rows in (first, second)}
    queries = layers.q_proj(first)
    assert torch.equal(layers.k_proj(second), wanted[second])
    assert torch.equal(layers.k_proj(first), wanted[first])
    assert torch.equal(layers.q_proj(first), queries)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose every matrix fits."""
    folder = tmp_path_factory.mktemp("llama31")
    return write_tiny_llama(folder, "llama31", hidden_size=512, num_attention_heads=4)


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_adapters(folder, tmp_path_factory.mktemp("adapters"))


def model_of(folder: Path, dtype: torch.dtype, *, ours: bool = False) -> Any:
    """A model in NF4; `ours` with our layers."""
    precision = Precision(dtype, "for the test")
    model = load(
        folder,
        LLAMA31.base,
        template=LLAMA31.template,
        device=torch.device("cpu"),
        precision=precision,
    ).model
    unnest_scales(model)
    assert not ours or replace_linears(model) == 14
    return model


def bank_of(model: Any, adapters: dict[str, Path], slots: int) -> AdapterBank:
    """All adapters, each in a slot of its own, the last slots without any."""
    bank = AdapterBank(model, LLAMA31.base, slots)
    for slot, (sha256, path) in enumerate(adapters.items()):
        bank.attach(path, sha256)
        bank.select(slot, sha256)
    return bank


@torch.inference_mode()
def test_llama_step_makes_four_products_per_layer_for_any_adapters(
    folder: Path, adapters: dict[str, Path], counted: list[tuple[int, ...]]
) -> None:
    ids, scores = torch.tensor([[10], [20], [30], [40]]), []
    for ours in (False, True):
        model = model_of(folder, torch.bfloat16, ours=ours)
        for attached in ({}, adapters):
            bank = bank_of(model, attached, len(ids))
            counted.clear()
            with bank.for_rows(len(ids)):
                scores.append(model(ids).logits.float())
            assert len(counted) == (4 * 2 if ours else 0)
    for plain, product in zip(scores[:2], scores[2:], strict=True):
        assert error(product, plain) < 0.01


@torch.inference_mode()
def test_a_prompts_scores_are_as_exact_as_bitsandbytes(
    folder: Path, adapters: dict[str, Path], counted: list[tuple[int, ...]]
) -> None:
    def scores(model: Any) -> list[Tensor]:
        bank, ids = bank_of(model, adapters, 4), torch.arange(400)[None] % 250
        found = []
        for sha256 in (None, *adapters):
            with bank.for_prompt(sha256):
                found.append(model(ids).logits.float())
        return found

    exact = scores(model_of(folder, torch.float32))
    plain = scores(model_of(folder, torch.bfloat16))
    ours = scores(model_of(folder, torch.bfloat16, ours=True))
    for wanted, theirs, mine in zip(exact, plain, ours, strict=True):
        assert error(mine, wanted) < 1.1 * error(theirs, wanted)


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@torch.inference_mode()
def test_prompts_and_single_rows_give_the_same_result_as_small_batches(
    layers: Attention, counted: list[tuple[int, ...]]
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


def test_replaced_layers_still_expose_the_same_weights(
    layers: Attention, counted: list[tuple[int, ...]]
) -> None:
    before = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    replace_linears(layers)
    after = layers.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
