"""The optimizer of a run, from its parameter groups."""

from __future__ import annotations

from typing import Any

import torch

from raysft.config.sections import TrainSection
from raysft.model.groups import Group


def build_optimizer(groups: list[Group], settings: TrainSection) -> torch.optim.Optimizer:
    """One torch group a Group, in their order, each with its rate and decay."""
    found: list[dict[str, Any]] = [
        {"params": group.parameters, "lr": group.learning_rate, "weight_decay": group.weight_decay} for group in groups
    ]
    return torch.optim.AdamW(found, fused=True)
