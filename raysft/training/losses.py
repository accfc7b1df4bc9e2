"""Losses of each target, before weights and sums. B rows, C classes.

Focal loss (Lin et al. 2017, arXiv 1708.02002, equation 4) multiplies the cross-entropy of a target by (1 - p) ** gamma,
p the probability of what is right; gamma 0 is cross-entropy. Its alpha is what `train.class_weights` are for. Label
smoothing spreads a share of the target over all classes (Szegedy et al. 2016, section 7); focal factors then apply to
each class's share alone.
"""

from __future__ import annotations

import torch
from torch import nn

from raysft.config.sections import TrainSection

SURE = 1e-7  # below float32's resolution at 1; a power of it has a finite slope where one of 0 has none


def gamma_of(settings: TrainSection) -> float:
    """The focal exponent that the settings mean; 0 for cross-entropy."""
    return settings.focal_gamma if settings.loss == "focal" else 0.0


def softmax_losses(
    logits_bc: torch.Tensor, targets_b: torch.Tensor, smoothing: float = 0.0, gamma: float = 0.0
) -> torch.Tensor:
    """Loss of each row of which one class is right, (B,). targets_b: int64.

    With smoothing s, class c of C is the target to the share q_c = s / C, and 1 - s more where it is right; the loss is
    the sum of q_c * (1 - p_c) ** gamma * -log(p_c).
    """
    if gamma == 0:
        return nn.functional.cross_entropy(logits_bc, targets_b, reduction="none", label_smoothing=smoothing)
    log_p_bc = nn.functional.log_softmax(logits_bc, dim=1)
    focal_bc = (-torch.expm1(log_p_bc)).clamp_min(SURE).pow(gamma) * -log_p_bc
    right_b = focal_bc.gather(1, targets_b[:, None]).squeeze(1)
    return (1 - smoothing) * right_b + smoothing * focal_bc.mean(dim=1)


def sigmoid_losses(
    logits_bc: torch.Tensor, targets_bc: torch.Tensor, smoothing: float = 0.0, gamma: float = 0.0
) -> torch.Tensor:
    """Loss of each decision whether a row has a label, (B, C). targets_bc: 1 where it has, else 0, float.

    With smoothing s the target is 1 - s/2 or s/2.
    """
    soft_bc = targets_bc * (1 - smoothing) + smoothing / 2
    if gamma == 0:
        return nn.functional.binary_cross_entropy_with_logits(logits_bc, soft_bc, reduction="none")
    log_p_bc, log_rest_bc = nn.functional.logsigmoid(logits_bc), nn.functional.logsigmoid(-logits_bc)
    has_bc = (gamma * log_rest_bc).exp() * -log_p_bc
    has_not_bc = (gamma * log_p_bc).exp() * -log_rest_bc
    return soft_bc * has_bc + (1 - soft_bc) * has_not_bc
