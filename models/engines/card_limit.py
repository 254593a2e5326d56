"""What a GPU reaches in products and copies, and the rate of reviews that this allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from models.kernels.fp8_product import multiply, quantise_rows, unavailable
from models.kernels.paged_cache import CacheKind
from models.text.generation import Arithmetic

#: Bytes that are copied, and sides of the matrices that are multiplied.
COPIED_BYTES, SIDE = 1 << 32, 8192
#: Repetitions of the copy and of a product, of which the median counts.
_COPIES, _PRODUCTS = 5, 20
#: Rows of a step among which the bytes of the weights are shared.
_ROWS = 88
#: Bytes of a number in bf16.
_BF16_BYTES = 2


@dataclass(frozen=True)
class CardRates:
    """Dense operations in bf16 and in FP8, and bytes read and written, a second.

    `fp8_flops` is None for a card without FP8.
    """

    flops: float
    fp8_flops: float | None
    bytes: float


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a Llama that its arithmetic depends on."""

    n_layers: int
    hidden: int
    intermediate: int
    n_heads: int
    n_kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ModelShape:
        """Read a config.json."""
        n_heads = config["num_attention_heads"]
        return cls(
            n_layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            n_heads=n_heads,
            n_kv_heads=config["num_key_value_heads"],
            head_dim=config.get("head_dim") or config["hidden_size"] // n_heads,
        )

    @property
    def parameters(self) -> int:
        """Weights of all linear layers, without embeddings and head."""
        attention = 2 * self.hidden * self.head_dim * (self.n_heads + self.n_kv_heads)
        return self.n_layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def attention_flops(self) -> int:
        """Operations of causal attention in a prompt, for each token squared."""
        return 2 * self.n_layers * self.n_heads * self.head_dim

    def cache_bytes(self, kind: CacheKind) -> int:
        """Bytes of a token's keys and values."""
        numbers = 2 * self.n_layers * self.n_kv_heads * self.head_dim
        return numbers if kind == "fp8" else numbers * _BF16_BYTES


def measure_rates(device: torch.device) -> CardRates:
    """Measure what a GPU reaches; takes 8 GiB and about a second."""
    source = torch.randn(COPIED_BYTES // 2, device=device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    copy = median(_seconds(lambda: target.copy_(source)) for _ in range(_COPIES))
    matrix = torch.randn(SIDE, SIDE, device=device, dtype=torch.bfloat16)
    product = median(_seconds(lambda: matrix @ matrix) for _ in range(_PRODUCTS))
    fp8 = None
    if not unavailable(device):
        rows = quantise_rows(matrix)
        fp8 = median(_seconds(lambda: multiply(rows, rows)) for _ in range(_PRODUCTS))
    n_operations = 2 * SIDE**3
    return CardRates(n_operations / product, fp8 and n_operations / fp8, 2 * COPIED_BYTES / copy)


def limit_papers_per_hour(
    rates: CardRates,
    shape: ModelShape,
    *,
    prompt_tokens: float,
    answer_tokens: float,
    arithmetic: Arithmetic = "exact",
    kv_cache: CacheKind = "bf16",
) -> float:
    """Papers an hour at a card's rates: arithmetic of a prompt, bytes of an answer's steps.

    Weights are read in bf16. With FP8 prompts their products run at the rate of FP8, attention
    still at that of bf16.
    """
    product_rate = rates.fp8_flops if arithmetic == "fp8" and rates.fp8_flops else rates.flops
    prompt = 2 * shape.parameters * prompt_tokens / product_rate
    prompt += shape.attention_flops * prompt_tokens**2 / rates.flops
    cached = (prompt_tokens + answer_tokens / 2) * shape.cache_bytes(kv_cache)
    step = (cached + _BF16_BYTES * shape.parameters / _ROWS) / rates.bytes
    return 3600 / (prompt + answer_tokens * step)


def _seconds(act: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    act()
    end.record()
    end.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1000
