"""Causal attention with a backward pass, by the fastest kernel of the device.

FlashAttention-3's wheel has no backward pass, so on Hopper cuDNN's fused kernel and
FlashAttention-2 are candidates; they are timed at the run's own length.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

#: Takes and gives [1, head, token, channel]; keys and values may have fewer heads.
AttentionFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
_TRIALS = 4
#: Tokens on which a kernel is compared with the reference, and the tolerance: errors of bf16
#: products stay below 0.01.
_CHECKED_TOKENS, _TOLERANCE = 256, 2e-2


@dataclass(frozen=True)
class CausalAttention:
    """One kernel and the reason for it."""

    name: str
    reason: str
    attend: AttentionFunction


@dataclass(frozen=True)
class HeadShape:
    """Query heads, key and value heads, channels of each."""

    queries: int
    keys: int
    channels: int


def choose_attention(
    device: torch.device, dtype: torch.dtype, shape: HeadShape, n_tokens: int
) -> CausalAttention:
    """Choose the correct kernel with the fastest forward and backward pass on `n_tokens`."""
    if device.type != "cuda":
        attend = _sdpa(SDPBackend.FLASH_ATTENTION, repeat=True)
        return CausalAttention("sdpa", "no GPU: PyTorch's own attention", attend)
    seconds: dict[str, float] = {}
    candidates = _candidates()
    for name, attend in candidates.items():
        with warnings.catch_warnings():
            # A kernel that does not run here warns at length.
            warnings.simplefilter("ignore")
            right = matches_reference(attend, device, dtype, shape)
            took = _seconds(attend, device, dtype, shape, n_tokens) if right else None
        if took is not None:
            seconds[name] = took
    best = min(seconds, key=seconds.__getitem__)
    times = ", ".join(f"{name} {took * 1e3:.1f}" for name, took in sorted(seconds.items()))
    reason = f"fastest of ({times}) ms forward and backward over {n_tokens} tokens"
    return CausalAttention(best, reason, candidates[best])


def attention_ops() -> set[Any]:
    """The operations whose results are kept when a block is recomputed."""
    names = ("cudnn", "flash", "efficient")
    found = [f"_scaled_dot_product_{name}_attention" for name in names]
    found.append("_scaled_dot_product_flash_attention_for_cpu")
    packets = [getattr(torch.ops.aten, name, None) for name in found]
    if find_spec("flash_attn") is not None:
        import flash_attn  # noqa: F401 - registers the operation

        packets.append(getattr(torch.ops.flash_attn, "_flash_attn_forward", None))
    return {packet.default for packet in packets if packet is not None}


def _candidates() -> dict[str, AttentionFunction]:
    """Kernels by name; some are faster with keys and values repeated for each query head."""
    kernels = {
        "cudnn": _sdpa(SDPBackend.CUDNN_ATTENTION, repeat=False),
        "cudnn, repeated": _sdpa(SDPBackend.CUDNN_ATTENTION, repeat=True),
        "flash": _sdpa(SDPBackend.FLASH_ATTENTION, repeat=False),
        "flash, repeated": _sdpa(SDPBackend.FLASH_ATTENTION, repeat=True),
        "efficient": _sdpa(SDPBackend.EFFICIENT_ATTENTION, repeat=True),
    }
    return kernels | ({"flash_attn": _flash_attn} if find_spec("flash_attn") else {})


def _sdpa(backend: SDPBackend, *, repeat: bool) -> AttentionFunction:
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        times = query.shape[1] // key.shape[1]
        if repeat and times > 1:
            key, value = (each.repeat_interleave(times, dim=1) for each in (key, value))
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(
                query, key, value, is_causal=True, enable_gqa=not repeat and times > 1
            )

    return attend


def _flash_attn(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    from flash_attn import flash_attn_func

    heads = (each.transpose(1, 2) for each in (query, key, value))
    out: Tensor = flash_attn_func(*heads, causal=True)
    return out.transpose(1, 2)


def matches_reference(
    attend: AttentionFunction, device: torch.device, dtype: torch.dtype, shape: HeadShape
) -> bool:
    """Whether a kernel's output and gradients match the reference within the precision."""
    inputs = _inputs(device, dtype, shape, _CHECKED_TOKENS)
    upstream = torch.randn_like(inputs[0])
    wide = [each.detach().float().requires_grad_() for each in inputs]
    try:
        output = attend(*inputs)
        found = (output, *torch.autograd.grad(output, inputs, upstream))
    except RuntimeError:
        return False
    plain = _reference_attention(*wide)
    expected = (plain, *torch.autograd.grad(plain, wide, upstream.float()))
    pairs = zip(found, expected, strict=True)
    return all((got.float() - want).norm() <= _TOLERANCE * want.norm() for got, want in pairs)


def _reference_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    times = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(times, dim=1) for each in (key, value))
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    hidden = torch.ones_like(scores, dtype=torch.bool).triu(1)
    shares = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return torch.matmul(shares, value)


def _inputs(
    device: torch.device, dtype: torch.dtype, shape: HeadShape, n_tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    def heads(n: int) -> Tensor:
        values = torch.randn(1, n_tokens, n, shape.channels, device=device, dtype=dtype)
        return values.transpose(1, 2).requires_grad_()

    return heads(shape.queries), heads(shape.keys), heads(shape.keys)


def _seconds(
    attend: AttentionFunction,
    device: torch.device,
    dtype: torch.dtype,
    shape: HeadShape,
    n_tokens: int,
) -> float | None:
    """Median time of a forward and backward pass; None if the kernel does not support it."""
    query, key, value = _inputs(device, dtype, shape, n_tokens)
    upstream = torch.randn_like(query)
    times: list[float] = []
    try:
        for _ in range(_TRIALS):
            start, end = (_event() for _ in range(2))
            start.record()
            torch.autograd.grad(attend(query, key, value), (query, key, value), upstream)
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
    # A kernel raises RuntimeError for a card, format or shape that it does not support.
    except RuntimeError:
        return None
    return statistics.median(times[1:])


def _event() -> Any:
    make: Callable[..., Any] = torch.cuda.Event
    return make(enable_timing=True)
