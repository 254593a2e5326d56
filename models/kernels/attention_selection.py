"""Choose the attention of an engine by measuring what is installed on the device itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from errors import MissingPart
from models.kernels.attention_backends import (
    CudnnPrompt,
    FlashPrompt,
    FlashStep,
    SdpaPrompt,
    SdpaStep,
    TorchFlashPrompt,
    TritonStep,
)
from models.kernels.decode_attention import BLOCK_TOKENS, unavailable
from models.kernels.device_support import NO_COMPILER, flash_versions
from models.kernels.paged_attention import DecodePlan, PromptAttention, StepAttention
from models.kernels.paged_cache import CacheKind, CacheShape, PagedCache

#: `auto` takes the fastest of all; another name excludes the others.
AttentionName = Literal["auto", "triton", "flash_attention_3", "flash_attention_2", "sdpa"]
#: Tokens of the prompts and requests that are measured: a paper's median.
_TOKENS = 9_000
#: Tokens of the prompt that is compared with float32, and rows of a step: no multiple of any tile.
_CHECKED_TOKENS, _CHECKED_ROWS = 777, 2
#: Bytes of keys and values that a measured step reads: much more than a GPU's second-level cache.
_STEP_BYTES = 1 << 30
#: Measurements, and runs of each: one after the other, so that starting them is hidden.
_REPETITIONS, _RUNS = 5, 10
#: Largest error of a result, relative to its norm: rounding of weights and results, and in eight
#: bits what FlashAttention-3 loses by rounding the queries too.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.01}
_FP8_TOLERANCE = 0.06

_Backend = TypeVar("_Backend", PromptAttention, StepAttention)
_Tried = TypeVar("_Tried", contravariant=True)
_log = logging.getLogger(__name__)


class _Case(Protocol[_Tried]):
    """Inputs for backends of one sort."""

    @property
    def tolerance(self) -> float:
        """The largest error that a backend may have."""

    def run(self, backend: _Tried) -> Tensor:
        """Attend to all of the input."""

    def error(self, backend: _Tried) -> float:
        """The error of a part of the result against float32, relative to its norm."""


@dataclass(frozen=True)
class SelectedAttention:
    """What an engine uses for prompts and for steps, with a sentence for `referee doctor`."""

    prompt: PromptAttention
    step: StepAttention
    reason: str

    @property
    def name(self) -> str:
        """What reviews record."""
        if self.step.name == self.prompt.name:
            return self.step.name
        return f"{self.step.name}, prompts {self.prompt.name}"


def select_attention(
    shape: CacheShape, n_query_heads: int, wanted: AttentionName = "auto"
) -> SelectedAttention:
    """Measure what is available for heads of this shape, and take the fastest.

    Allocates a cache of 1 GiB and the tensors of a prompt; where they do not fit, nothing is
    measured and our own kernels are taken. What fails or differs from float32 is not used, with
    a warning. MissingPart when `wanted` is not available.
    """
    if shape.device.type != "cuda":
        if wanted not in ("auto", "sdpa"):
            raise MissingPart(f"REFEREE_ATTENTION={wanted} needs an NVIDIA GPU.")
        return SelectedAttention(SdpaPrompt(), SdpaStep(), "no GPU: PyTorch's attention")
    prompts = _measured(_prompts(shape, wanted), lambda: _PromptCase.of(shape, n_query_heads))
    steps = _measured(_steps(shape, wanted), lambda: _StepCase.of(shape, n_query_heads))
    torch.cuda.empty_cache()
    prompt, step = next(iter(prompts), SdpaPrompt()), next(iter(steps), SdpaStep())
    if not steps and wanted not in ("auto", "sdpa"):
        raise MissingPart(
            f"REFEREE_ATTENTION={wanted} cannot be used on this GPU with "
            f"{_kind(shape)} keys and values; `auto` selects what can."
        )
    reason = f"steps: {_times(steps)}; prompts: {_times(prompts)}"
    return SelectedAttention(prompt, step, reason)


def _kind(shape: CacheShape) -> CacheKind:
    return "fp8" if shape.is_fp8 else "bf16"


def _prompts(shape: CacheShape, wanted: AttentionName) -> list[Callable[[], PromptAttention]]:
    if shape.compute_dtype == torch.float32 or wanted == "sdpa":
        return []
    found: list[Callable[[], PromptAttention]] = []
    if wanted in ("auto", "triton"):
        found += [CudnnPrompt, TorchFlashPrompt]
    for name in flash_versions(shape.device):
        if wanted in ("auto", name):
            found.append(partial(FlashPrompt, name))
    return found


def _steps(shape: CacheShape, wanted: AttentionName) -> list[Callable[[], StepAttention]]:
    found: list[Callable[[], StepAttention]] = []
    obstacle = unavailable(shape.device, shape.head_dim)
    if obstacle == NO_COMPILER:
        _log.warning(
            "%s: our attention and NF4 kernels cannot be used. Without FlashAttention steps then "
            "run one row after the other, many times slower. Install gcc.",
            obstacle,
        )
    if not obstacle and wanted in ("auto", "triton"):
        found.append(TritonStep)
    for name in flash_versions(shape.device):
        fits = shape.compute_dtype != torch.float32 and not (
            shape.is_fp8 and name == "flash_attention_2"
        )
        if fits and wanted in ("auto", name):
            found.append(partial(FlashStep, name))
    return found


@dataclass(frozen=True)
class _PromptCase:
    """Random queries, keys and values [1, token, head, dim]."""

    query: Tensor
    key: Tensor
    value: Tensor

    @classmethod
    def of(cls, shape: CacheShape, n_query_heads: int) -> _PromptCase:
        heads = (n_query_heads, shape.n_heads, shape.n_heads)
        return cls(*(_random(shape, 1, _TOKENS, n, shape.head_dim) for n in heads))

    def run(self, backend: PromptAttention) -> Tensor:
        return backend(self.query, self.key, self.value, self._scale)

    def error(self, backend: PromptAttention) -> float:
        query, key, value = (t[:, :_CHECKED_TOKENS] for t in (self.query, self.key, self.value))
        expected = SdpaPrompt()(query.float(), key.float(), value.float(), self._scale)
        return _relative_error(backend(query, key, value, self._scale), expected)

    @property
    def _scale(self) -> float:
        scale: float = self.query.shape[-1] ** -0.5
        return scale

    @property
    def tolerance(self) -> float:
        return _TOLERANCE[self.query.dtype]


@dataclass(frozen=True)
class _StepCase:
    """Random queries [row, head, dim] and a cache that is full of random keys and values."""

    query: Tensor
    cache: PagedCache

    @classmethod
    def of(cls, shape: CacheShape, n_query_heads: int) -> _StepCase:
        layer = replace(shape, n_layers=1)
        rows = max(_CHECKED_ROWS, _STEP_BYTES // (layer.bytes_per_token * _TOKENS))
        cache = PagedCache(
            layer,
            n_blocks=rows * -(-_TOKENS // BLOCK_TOKENS),
            block_tokens=BLOCK_TOKENS,
            slots=rows,
            max_tokens=_TOKENS,
        )
        prompt = _random(shape, 2, _TOKENS, shape.n_heads, shape.head_dim)
        for slot in range(rows):
            cache.reserve(slot, _TOKENS)
            cache.write_prompt(0, slot, cache.slot_mapping(slot, _TOKENS), *prompt)
        return cls(_random(shape, rows, n_query_heads, shape.head_dim), cache)

    def run(self, backend: StepAttention) -> Tensor:
        rows = len(self.query)
        lengths = torch.full((rows,), _TOKENS, dtype=torch.int32, device=self.query.device)
        plan = DecodePlan(backend, self.cache, lengths.long(), lengths.long(), lengths)
        return backend(self.query, 0, plan, self.query.shape[-1] ** -0.5)

    def error(self, backend: StepAttention) -> float:
        found = self.run(backend)[:_CHECKED_ROWS]
        return _relative_error(found, torch.cat([self._expected(r) for r in range(_CHECKED_ROWS)]))

    def _expected(self, row: int) -> Tensor:
        """The attention of a row in float32, to what its cache holds."""
        cache, blocks = self.cache, self.cache.tables[row].long()
        query = cache.rotate_query(self.query[None, row : row + 1]).float()
        scales = cache.kv_scales_of(0, len(self.query)) or (None, None)
        key, value = (
            pool[0, blocks].flatten(0, 1)[None, :_TOKENS].float()
            * (1.0 if scale is None else scale[row, :, None])
            for pool, scale in zip((cache.keys, cache.values), scales, strict=True)
        )
        query, key, value = (each.transpose(1, 2) for each in (query, key, value))
        attended = scaled_dot_product_attention(query, key, value, enable_gqa=True)
        return attended.transpose(1, 2)[0]

    @property
    def tolerance(self) -> float:
        return _TOLERANCE[self.query.dtype] if self.cache.kv_scales is None else _FP8_TOLERANCE


def _measured(
    makers: Sequence[Callable[[], _Backend]], prepare: Callable[[], _Case[_Backend]]
) -> Mapping[_Backend, float | None]:
    """Milliseconds of each backend that works, the fastest first; None without the memory."""
    if not makers:
        return {}
    found: dict[_Backend, float] = {}
    try:
        case = prepare()
        for make in makers:
            backend = make()
            milliseconds = _milliseconds(backend, case)
            if milliseconds is not None:
                found[backend] = milliseconds
    except torch.OutOfMemoryError:
        return {makers[0](): None}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _milliseconds(backend: _Backend, case: _Case[_Backend]) -> float | None:
    """The median time of a run; None, with a warning, where it fails or is wrong."""
    try:
        error = case.error(backend)
        if not error < case.tolerance:
            _log.warning("%s attention is not used: its error is %.4f", backend.name, error)
            return None
        return median(_run_milliseconds(lambda: case.run(backend)) for _ in range(_REPETITIONS))
    except (torch.AcceleratorError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        _log.warning("%s attention is not used: %s", backend.name, reason)
        return None


def _run_milliseconds(run: Callable[[], object]) -> float:
    """Time on the device of one run, without that of starting it."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(_RUNS):
        run()
    end.record()
    end.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / _RUNS


def _times(measured: Mapping[_Backend, float | None]) -> str:
    parts = [
        f"{backend.name}, not measured for lack of memory"
        if milliseconds is None
        else f"{backend.name} {milliseconds:.2f} ms"
        for backend, milliseconds in measured.items()
    ]
    return ", ".join(parts) or "PyTorch's attention, since nothing faster works here"


def _random(shape: CacheShape, *size: int) -> Tensor:
    return torch.randn(size, device=shape.device, dtype=shape.compute_dtype)


def _relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected).norm() / expected.norm())
