"""What a model on a GPU is saved changes none of its weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit

from models.fusion import unnest_scales
from models.loading import LoadedModel


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
