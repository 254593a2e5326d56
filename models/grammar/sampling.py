"""Temperature, top-p and seeded sampling on score tensors.

Sampling adds Gumbel noise to the scores, so that the largest sum is a draw from their softmax. The
noise is a hash of (seed, position, token id): a row's draws depend on nothing else, neither on its
neighbours nor on the device. Everything has a fixed shape and needs no host synchronisation.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
#: "lowbias32", the best known integer hash of its shape (Wellons and Ettingsvold, hash-prospector).
#: Both factors are below 2**31, so a product with 32 bits never leaves int64.
_FACTORS = (0x21F0AAAD, 0x735A2D97)
#: Tells the words that are hashed apart (the golden ratio's bits).
_STEP = 0x9E3779B9
#: The nucleus is looked for among so many of the likeliest tokens. A sensible model's holds a few
#: hundred at most; sorting a whole vocabulary takes 4 to 30 ms a token on a CPU, this 1 ms.
MAX_NUCLEUS = 4096
#: Seeds are taken modulo 2**63.
SEED_MASK = (1 << 63) - 1


def apply_temperature(scores: Tensor, temperature: Tensor) -> Tensor:
    """Scores [B, V] over temperature [B]; 0 means greedy and leaves them alone."""
    return scores / torch.where(temperature > 0, temperature, 1.0)[:, None]


def apply_top_p(scores: Tensor, top_p: Tensor) -> Tensor:
    """Keep the fewest tokens that hold `top_p` [B] of the probability, the others become -inf.

    MAX_NUCLEUS tokens at most, where top_p is below 1. Tokens with the same score as the last one
    kept stay too, so the result does not depend on the order of sorting.
    """
    ordered, _, kept = _most_probable(scores, top_p)
    least = ordered.masked_fill(~kept, float("inf")).amin(dim=-1, keepdim=True)
    unwanted = (scores < least) & (top_p < 1)[:, None]
    return scores.masked_fill(unwanted, float("-inf"))


def sample_nucleus(scores: Tensor, top_p: Tensor, seed: Tensor, position: Tensor) -> Tensor:
    """Each row's sample [B] where every `top_p` is below 1: noise for the likeliest tokens only.

    The same tokens as the argmax of `add_gumbel_noise` after `apply_top_p`.
    """
    ordered, tokens, kept = _most_probable(scores, top_p)
    noisy = ordered + gumbel(seed, position, tokens)
    best = noisy.masked_fill(~kept, float("-inf")).argmax(dim=-1, keepdim=True)
    return tokens.gather(-1, best)[:, 0]


def _most_probable(scores: Tensor, top_p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The MAX_NUCLEUS likeliest tokens: falling scores, ids, and which top-p keeps, each [B, N]."""
    ordered, tokens = scores.topk(min(MAX_NUCLEUS, scores.shape[-1]))
    probability = (ordered - scores.logsumexp(dim=-1, keepdim=True)).exp()
    before = probability.cumsum(dim=-1) - probability
    last = (before < top_p[:, None]).sum(dim=-1, keepdim=True).clamp(min=1) - 1
    return ordered, tokens, ordered >= ordered.gather(-1, last)


def add_gumbel_noise(scores: Tensor, seed: Tensor, position: Tensor, temperature: Tensor) -> Tensor:
    """Add each row's Gumbel noise, unless it is greedy; the argmax is then the row's sample.

    `seed` and `position` are int64 [B]; scores [B, V] are already divided by the temperature.
    """
    noise = gumbel(seed, position, torch.arange(scores.shape[-1], device=scores.device))
    return torch.where((temperature > 0)[:, None], scores + noise, scores)


def gumbel(seed: Tensor, position: Tensor, tokens: Tensor) -> Tensor:
    """Standard Gumbel noise, float32 [B, N], for seeds and positions [B], token ids [N] or [B, N].

    All are int64.
    """
    bits = _bits(seed, position, tokens)
    # 1 - u, not u: floats are finest near 0, and the large values of the noise come from there.
    rest = bits.float().add_(0.5).mul_(2.0**-32).clamp_(max=1 - 2.0**-24)
    return rest.neg_().log1p_().neg_().log_().neg_()


def _bits(seed: Tensor, position: Tensor, tokens: Tensor) -> Tensor:
    """32 random bits for each token id: int64 [B, N]."""
    words = _mix((tokens * _STEP + 1) & _MASK)
    key = _mix(_mix(_mix(seed & _MASK) ^ (seed >> 32)) ^ _mix((position + _STEP) & _MASK))
    return _mix(words ^ key[:, None])


def _mix(word: Tensor) -> Tensor:
    """Mix 32-bit words in place, a bijection; copies would cost thrice the time."""
    word ^= word >> 16
    word *= _FACTORS[0]
    word &= _MASK
    word ^= word >> 15
    word *= _FACTORS[1]
    word &= _MASK
    word ^= word >> 15
    return word
