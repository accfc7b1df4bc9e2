"""Cross-entropy over a large vocabulary without its logits: a piece of the tokens at a time, gradients on the way.

What the loss needs of a token's logits are one number and their gradient, which the forward pass can turn into that of
hidden states and weights at once; so that no logits are kept, and none computed twice (as in Liger Kernel's fused
linear cross-entropy, Hsu et al. 2024, arXiv 2410.10989).
M tokens that are learnt, H hidden size, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

CHUNK_BYTES = 256 * 2**20  # of float32 logits that exist at once
Piece = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def summed_loss(head: nn.Linear, hidden: torch.Tensor, said: torch.Tensor, piece: Piece) -> torch.Tensor:
    """Cross-entropy summed over tokens, float32 scalar. hidden: (M, H); said: int64 (M,); piece: loss_and_slope."""
    size = max(1, CHUNK_BYTES // (4 * head.out_features))
    found: torch.Tensor = _Summed.apply(hidden, head.weight, head.bias, said, size, piece)  # type: ignore[no-untyped-call,unused-ignore]
    return found


def loss_and_slope(logits: torch.Tensor, said: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(summed cross-entropy, float32 scalar; its gradient by the logits, in their type, (m, V)). logits: (m, V)."""
    log_p = torch.log_softmax(logits.float(), dim=-1)
    places = said[:, None]
    slope = log_p.exp()
    slope.scatter_add_(1, places, torch.full_like(places, -1, dtype=slope.dtype))
    return -log_p.gather(1, places).sum(), slope.to(logits.dtype)


class _Summed(torch.autograd.Function):
    """Gradients are those of a sum, so that the backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        said: torch.Tensor,
        size: int,
        piece: Piece,
    ) -> torch.Tensor:
        needs = ctx.needs_input_grad
        of_hidden = torch.zeros_like(hidden) if needs[0] else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if needs[1] else None
        of_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and needs[2] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(said), size):
            some = hidden[start : start + size]
            loss, slope = piece(nn.functional.linear(some, weight, bias), said[start : start + size])
            total += loss
            if of_hidden is not None:
                of_hidden[start : start + size] = slope @ weight
            if of_weight is not None:
                of_weight += slope.t() @ some
            if of_bias is not None:
                of_bias += slope.sum(dim=0)
        ctx.save_for_backward(of_hidden, of_weight, of_bias)
        ctx.kinds = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, above: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        slopes = zip(ctx.saved_tensors, ctx.kinds, strict=True)
        return (*(None if each is None else (each * above).to(kind) for each, kind in slopes), None, None, None)
