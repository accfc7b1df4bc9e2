"""Losses of each target against arithmetic by hand, torch's own functions, and finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from raysft.config.sections import TrainSection
from raysft.training.losses import gamma_of, sigmoid_losses, softmax_losses

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]], dtype=torch.float64)
RIGHT = torch.tensor([0, 1])
HAS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)


def test_the_focal_loss_by_hand() -> None:
    """p = 0.8 and 0.25 of the right class, gamma 2: 0.2^2 * -ln 0.8 and 0.75^2 * -ln 0.25."""
    logits = torch.log(torch.tensor([[0.8, 0.2], [0.75, 0.25]]))
    found = softmax_losses(logits, torch.tensor([0, 1]), gamma=2.0)
    assert found.tolist() == pytest.approx([0.04 * -math.log(0.8), 0.5625 * -math.log(0.25)], rel=1e-6)


def test_the_sigmoid_focal_loss_by_hand() -> None:
    """Probability 0.8: where the label is there 0.2^2 * -ln 0.8, where it is not 0.8^2 * -ln 0.2."""
    logits = torch.full((1, 2), math.log(4.0))
    found = sigmoid_losses(logits, torch.tensor([[1.0, 0.0]]), gamma=2.0)
    assert found[0].tolist() == pytest.approx([0.04 * -math.log(0.8), 0.64 * -math.log(0.2)], rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_gamma_zero_is_cross_entropy_also_by_the_focal_formula(smoothing: float) -> None:
    """A gamma too small to matter takes the other branch; both must agree."""
    plain = functional.cross_entropy(LOGITS, RIGHT, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(softmax_losses(LOGITS, RIGHT, smoothing), plain)
    torch.testing.assert_close(softmax_losses(LOGITS, RIGHT, smoothing, gamma=1e-12), plain)
    soft = HAS * (1 - smoothing) + smoothing / 2
    each = functional.binary_cross_entropy_with_logits(LOGITS, soft, reduction="none")
    torch.testing.assert_close(sigmoid_losses(LOGITS, HAS, smoothing), each)
    torch.testing.assert_close(sigmoid_losses(LOGITS, HAS, smoothing, gamma=1e-12), each)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradients_are_those_of_finite_differences(smoothing: float, gamma: float) -> None:
    one: Callable[[torch.Tensor], torch.Tensor] = lambda z: softmax_losses(z, RIGHT, smoothing, gamma)  # noqa: E731
    several: Callable[[torch.Tensor], torch.Tensor] = lambda z: sigmoid_losses(z, HAS, smoothing, gamma)  # noqa: E731
    for function in (one, several):
        assert torch.autograd.gradcheck(function, LOGITS.clone().requires_grad_())


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("size", [30.0, 200.0, 1e4])
def test_sure_rows_have_finite_losses_and_gradients(size: float, gamma: float) -> None:
    """In float32 a probability rounds to 1 from logits of 17 on; (1 - p) ** 0.3 has no slope at 0."""
    for sign in (1.0, -1.0):
        logits = torch.tensor([[size, -size, 0.0]]).mul(sign).requires_grad_()
        losses = [
            softmax_losses(logits, torch.tensor([0]), 0.1, gamma),
            sigmoid_losses(logits, HAS[:1].float(), 0.1, gamma),
        ]
        total = torch.stack([loss.sum() for loss in losses]).sum()
        (gradient,) = torch.autograd.grad(total, logits)
        assert torch.isfinite(total) and torch.isfinite(gradient).all()


def test_focal_gamma_counts_with_the_focal_loss_only() -> None:
    assert gamma_of(TrainSection(loss="focal", focal_gamma=1.5)) == 1.5
    assert gamma_of(TrainSection(focal_gamma=1.5)) == 0.0
