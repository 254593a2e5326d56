"""What a model on a GPU is saved changes none of its weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit

from models.kernels.fusion import unnest_scales
from models.kernels.nf4_linear import replace_linears
from models.weights.loading import LoadedModel


def test_unnested_scales_give_the_same_weights_to_the_bit(
    load_tiny: Callable[..., LoadedModel],
) -> None:
    model = load_tiny("llama31").model
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    before = [dequantize_4bit(layer.weight.data, layer.weight.quant_state) for layer in layers]
    assert all(layer.weight.quant_state.nested for layer in layers)
    unnest_scales(model)
    assert not any(layer.weight.quant_state.nested for layer in layers)
    for layer, expected in zip(layers, before, strict=True):
        assert torch.equal(dequantize_4bit(layer.weight.data, layer.weight.quant_state), expected)


def test_where_the_product_does_not_run_bitsandbytes_layers_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given layers that would fit, on a device that Triton has no kernels for
    options = {"bias": False, "compute_dtype": torch.bfloat16, "quant_type": "nf4"}
    layers = [Linear4bit(128, 64, compress_statistics=False, **options) for _ in range(2)]
    model = torch.nn.Sequential(*layers).bfloat16().to("cpu")
    # When they are to be replaced
    assert replace_linears(model) == 0
    # Then they stay, and the log says why
    assert all(type(layer) is Linear4bit for layer in layers)
    assert "decoding with bitsandbytes' products, which is slower" in caplog.text
