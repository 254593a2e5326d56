"""Errors of the hidden states of prompts, layer by layer, in NF4 and in FP8.

Reference is the model with unquantised weights in float32. The first comparison is of NF4 itself:
the same float32 arithmetic with NF4's values. Then follow NF4 in the device's precision, prompts in
FP8, and prompts in FP8 but for the products of one kind, which shows what each kind adds.

A token's error is relative to the norm of its own hidden state, and the figure of a layer is the
root mean square over tokens: of the first token, which holds massive activations, the norm is a
hundred times that of others and would hide their errors.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from benchmarks.fp8_papers import load_small, weights_on
from errors import MissingPart
from models.kernels.fp8 import FP8, LARGEST_FP8, MIN_LIMIT
from models.kernels.nf4_linear import Nf4Linear
from models.kernels.prompt_arithmetic import PromptArithmetic
from models.text.reviewer import builtin
from models.text.reviewer import load as load_reviewer
from models.weights.loading import default_device, load
from models.weights.random_weights import byte_tokenizer
from testing.small_models import small_model_folder

#: The linear layers of a block by what they read together.
KINDS: Mapping[str, tuple[str, ...]] = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "o": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
#: Makes the products of some kinds FP8 on a model, as long as the context lasts.
InFp8 = Callable[[Any, Sequence[str]], AbstractContextManager[None]]

#: Channels that are larger than others at every token, and by how much: LLM.int8() found up to 7
#: such channels in models of 6.7B parameters and more, with values up to 20 times as large
#: (Dettmers et al. 2022, arXiv:2208.07339).
OUTLIER_CHANNELS, OUTLIER_FACTOR = 6, 20.0
#: Channels and values of the first token's massive activations: Llama 2 7B has two, the largest
#: about 2,600 where the median is 0.2 (Sun et al. 2024, arXiv:2402.17762, table 1).
MASSIVE_CHANNELS, MASSIVE_VALUE = (1415, 2533), 1000.0
#: Channels of SwiGLU's output with spikes, and the factor on both of its inputs' weights (Yang et
#: al. 2024, arXiv:2405.14428, find them in the first and last layers; here they are in all).
SPIKE_CHANNELS, SPIKE_FACTOR = 8, 5.0
#: Whose shape and template the large model has.
LARGE = load_reviewer(builtin()["llama31-7"])
#: The prompts of the large model: [prompt, token].
LARGE_PROMPTS = (4, 2048)


def measure_small(prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The real small model, without an adapter, on prompts of papers."""
    folder = small_model_folder()
    exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return compare_layers(exact.to(default_device()), lambda: load_small().model, prompts)


def measure_large(shape: Mapping[str, Any]) -> dict[str, Any]:
    """Random weights with outliers in a shape such as Llama 3.1 8B's, and random tokens."""
    torch.manual_seed(0)
    model = random_model(shape)
    add_outliers(model)
    n_prompts, n_tokens = LARGE_PROMPTS
    prompts = torch.randint(1, model.config.vocab_size, (n_prompts, n_tokens))
    prompts[:, 0] = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model.save_pretrained(folder)
        byte_tokenizer(LARGE.template or "").save(str(folder / "tokenizer.json"))
        return compare_layers(model.float(), lambda: _load_large(folder), prompts.tolist())


def random_model(shape: Mapping[str, Any]) -> Any:
    """A Llama in bf16 whose residual branches are initialised as GPT-2's are.

    Their last products are divided by the square root of their number, so that hidden states do
    not grow with the depth more than those of trained models.
    """
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(default_device()):
            model = LlamaForCausalLM(LlamaConfig(**shape)).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for layer in model.model.layers:
            for branch in (layer.self_attn.o_proj, layer.mlp.down_proj):
                branch.weight /= (2 * model.config.num_hidden_layers) ** 0.5
    return model


@torch.no_grad()
def add_outliers(model: Any) -> None:
    """Add what makes quantisation hard in trained models, and random weights do not have.

    Outlier channels are factors of the norms before the products, massive activations are values
    of the first token's embedding (id 0), spikes are rows of the gate and up projections.
    """
    config = model.config
    channels = torch.randperm(config.hidden_size)[:OUTLIER_CHANNELS]
    massive = [channel % config.hidden_size for channel in MASSIVE_CHANNELS]
    model.model.embed_tokens.weight[0, massive] = MASSIVE_VALUE
    for layer in model.model.layers:
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            norm.weight[channels] *= OUTLIER_FACTOR
        rows = torch.randperm(config.intermediate_size)[:SPIKE_CHANNELS]
        for projection in (layer.mlp.gate_proj, layer.mlp.up_proj):
            projection.weight[rows] *= SPIKE_FACTOR


def _load_large(folder: Path) -> Any:
    assert LARGE.base is not None
    # Positions as the weights' own configuration says: the shape may be a smaller one.
    base = replace(LARGE.base, rope_scaling=None)
    return load(
        folder,
        base,
        template=LARGE.template or "",
        weights=weights_on(default_device()),
        device=default_device(),
        attention="sdpa",
    ).model


@torch.inference_mode()
def compare_layers(
    reference: Any, load_nf4: Callable[[], Any], prompts: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Errors of all layers' outputs and of the last norm's, against `reference` in float32.

    The reference's linear weights are replaced by NF4's values on the way.
    """
    wanted = hidden_states(reference, prompts)
    model = load_nf4()
    copy_nf4_values(model, reference)
    nf4 = hidden_states(reference, prompts)
    results = {
        "prompts": len(prompts),
        "tokens": sum(map(len, prompts)),
        "largest_over_median": [_largest_over_median(each) for each in wanted],
        "NF4 in float32": _errors(nf4, wanted),
    }
    in_fp8 = fp8_products(model)
    results["fp8_products"] = in_fp8.__name__
    for name, kinds in variants().items():
        with in_fp8(model, kinds):
            found = hidden_states(model, prompts)
        results[name] = _errors(found, wanted)
        results[f"{name}, against NF4 in float32"] = _errors(found, nf4)
    return results


def fp8_products(model: Any) -> InFp8:
    """Our kernels, or PyTorch's rounding on a CPU; MissingPart on a GPU without FP8."""
    if model.device.type == "cpu":
        return rounded_to_fp8
    arithmetic = PromptArithmetic(model)
    if "fp8" not in arithmetic.available:
        raise MissingPart(f"Prompts cannot be read in FP8 here: {arithmetic.fp8_unavailable}.")
    return kernels_in_fp8


def variants() -> dict[str, list[str]]:
    """The kinds of products that are in FP8, by name."""
    left_out = {f"fp8 but {kind}": [k for k in KINDS if k != kind] for kind in KINDS}
    return {"exact": [], "fp8": list(KINDS), **left_out}


@contextmanager
def kernels_in_fp8(model: Any, kinds: Sequence[str]) -> Iterator[None]:
    """Let our kernels read prompts in FP8 in the layers of these kinds."""
    layers = [m for m in _layers(model, kinds) if isinstance(m, Nf4Linear)]
    for layer in layers:
        layer.fused.arithmetic = "fp8"
    try:
        yield
    finally:
        for layer in layers:
            layer.fused.arithmetic = "exact"


@contextmanager
def rounded_to_fp8(model: Any, kinds: Sequence[str]) -> Iterator[None]:
    """Round both factors of these kinds' products to e4m3, and multiply them in the model's type.

    It stands in for the kernels on devices without them: sums are then more exact than theirs.
    """

    def round_input(_layer: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        return (round_rows(given[0]),)

    with ExitStack() as stack:
        for layer in _layers(model, kinds):
            weight, exact = layer.weight, layer.weight.data
            stack.callback(setattr, weight, "data", exact)
            weight.data = round_rows(exact)
            stack.callback(layer.register_forward_pre_hook(round_input).remove)
        yield


def round_rows(rows: Tensor) -> Tensor:
    """Round [..., column] to e4m3 in units of each row's largest absolute value."""
    limits = rows.abs().amax(dim=-1, keepdim=True).float().clamp(min=MIN_LIMIT)
    scales = limits / LARGEST_FP8
    return ((rows.float() / scales).to(FP8).float() * scales).to(rows.dtype)


def _layers(model: Any, kinds: Sequence[str]) -> list[Any]:
    names = {name for kind in kinds for name in KINDS[kind]}
    return [m for path, m in model.named_modules() if path.rpartition(".")[2] in names]


def copy_nf4_values(model: Any, reference: Any) -> None:
    """Replace the linear weights of a float32 model by those of the same model in NF4, unrounded.

    A model that was dequantised already gives its weights as they are.
    """
    for layer, target in zip(
        _layers(model, list(KINDS)), _layers(reference, list(KINDS)), strict=True
    ):
        values = layer.weight.data
        if isinstance(layer, Linear4bit):
            state = layer.weight.quant_state
            dtype, state.dtype = state.dtype, torch.float32
            values = dequantize_4bit(values, state)
            state.dtype = dtype
        target.weight.data.copy_(values)


def hidden_states(model: Any, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    """The outputs of all layers and of the last norm for all prompts: float32 [token, hidden]."""
    parts: list[list[Tensor]] = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=model.device)
        with _recorded([*model.model.layers, model.model.norm]) as outputs:
            model.model(ids, use_cache=False)
        parts.append(outputs)
    return [torch.cat(each) for each in zip(*parts, strict=True)]


@contextmanager
def _recorded(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what modules return in a forward pass of one prompt."""
    outputs: list[Tensor] = []

    def keep(_module: Any, _given: Any, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        outputs.append(tensor.reshape(-1, tensor.shape[-1]).float())

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(keep).remove)
        yield outputs


def _errors(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> dict[str, Any]:
    """Errors of each layer, and of the worst hundredth of tokens after the last norm."""
    every = [token_errors(f, w) for f, w in zip(found, wanted, strict=True)]
    return {
        "layers": [round(float(each.square().mean().sqrt()), 5) for each in every],
        "last_p99": round(float(every[-1].quantile(0.99)), 5),
    }


def token_errors(found: Tensor, wanted: Tensor) -> Tensor:
    """Error of each row, relative to its own norm: [token]."""
    return (found - wanted).norm(dim=-1) / wanted.norm(dim=-1)


def _largest_over_median(states: Tensor) -> float:
    """How much the largest value of a layer's output exceeds the median absolute value."""
    values = states.abs().flatten()
    return round(float(values.max() / values[:: max(1, len(values) // 1_000_000)].median()), 1)
