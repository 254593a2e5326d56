"""Cross-entropy of an answer's tokens, computed in tiles.

Only rows that predict the answer are passed in, and only one tile's logits exist at a time: for
128,256 entries the logits of 12,288 tokens and their gradients would take 12 GiB in fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: Rows of one tile: 512 x 128,256 logits in fp32 are 250 MiB.
TILE = 512


def token_losses(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of each target, [row], without gradients."""
    parts = []
    with torch.no_grad():
        for rows, wanted in zip(_tiles(hidden), _tiles(targets), strict=True):
            scores = (rows @ head.T).float()
            chosen = scores.gather(1, wanted[:, None])[:, 0]
            parts.append(scores.logsumexp(1) - chosen)
    return torch.cat(parts)


def response_loss(hidden: Tensor, head: Tensor, targets: Tensor, scale: float) -> Tensor:
    """`scale` times the summed loss of `targets` [row] under `hidden` [row, channel]."""
    apply: Callable[..., Tensor] = _ResponseLoss.apply
    return apply(hidden, head, targets, scale)


def _tiles(tensor: Tensor) -> tuple[Tensor, ...]:
    return torch.split(tensor, TILE)


class _ResponseLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, scale: float) -> Tensor:
        d_hidden = torch.empty_like(hidden)
        total = torch.zeros((), device=hidden.device)
        tiles = zip(_tiles(hidden), _tiles(targets), _tiles(d_hidden), strict=True)
        for rows, wanted, d_rows in tiles:
            scores = (rows @ head.T).float()
            index = wanted[:, None]
            normaliser = scores.logsumexp(1, keepdim=True)
            total += (normaliser - scores.gather(1, index)).sum()
            shares = scores.sub_(normaliser).exp_()
            shares.scatter_add_(1, index, shares.new_full(index.shape, -1.0))
            d_rows.copy_(shares.mul_(scale).to(rows.dtype) @ head)
        ctx.save_for_backward(d_hidden)
        return total * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (d_hidden,) = ctx.saved_tensors
        return d_hidden * gradient, None, None, None
