"""The optimizer of a run, from its parameter groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from raysft.config.sections import TrainSection
from raysft.errors import UsageError
from raysft.model.groups import Group


def build_optimizer(groups: list[Group], settings: TrainSection) -> torch.optim.Optimizer:
    """One torch group a Group, in their order, each with its rate and decay. Raises UsageError.

    adamw      Loshchilov, Hutter 2019 (arXiv 1711.05101), betas 0.9 and 0.999, eps 1e-8; one fused kernel.
    adafactor  Shazeer, Stern 2018 (arXiv 1804.04235) as torch has it, float32: second moments by row and column, none
               of first order, beta2 = 1 - t^-0.8, updates clipped at a root mean square of 1, decoupled decay. The step
               of a tensor is min(rate, 1/sqrt(t)) times the tensor's own root mean square, at least 1e-3.
    adamw_8bit AdamW with both moments in 8 bits, 256 values a block (Dettmers et al. 2022, arXiv 2110.02861).
    """
    found: list[dict[str, Any]] = [
        {"params": group.parameters, "lr": group.learning_rate, "weight_decay": group.weight_decay} for group in groups
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(found, fused=True)
    _require_whole(groups, settings.optimizer)
    if settings.optimizer == "adafactor":
        return torch.optim.Adafactor(found, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0)
    return _eight_bit(found)


def after_load(optimizer: torch.optim.Optimizer) -> None:
    """Mend what a checkpoint cannot keep as it was: bitsandbytes counts steps in a Python number, not in a tensor."""
    if type(optimizer).__module__.startswith("bitsandbytes"):
        for state in optimizer.state.values():
            state["step"] = int(state["step"])


def _require_whole(groups: list[Group], name: str) -> None:
    """Row sums of Adafactor and blocks of 8-bit moments reach over what one rank holds of a sharded tensor."""
    if any(isinstance(parameter, DTensor) for group in groups for parameter in group.parameters):
        raise UsageError(
            f"train.optimizer: {name} needs whole tensors, and train.strategy fsdp shares them out among the workers",
            "Use --set train.optimizer=adamw, whose state fsdp shares out too, or --set train.strategy=ddp.",
        )


def _eight_bit(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    parameters: list[nn.Parameter] = [parameter for group in groups for parameter in group["params"]]
    if any(parameter.device.type != "cuda" for parameter in parameters):
        raise UsageError(
            "train.optimizer: adamw_8bit needs a GPU, and training runs on a CPU",
            "Use --set train.optimizer=adamw (or adafactor, which keeps little state too), or --set train.device=gpu.",
        )
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise UsageError(
            "train.optimizer: adamw_8bit needs the package bitsandbytes, which is not installed",
            "Install it with: pip install 'raysft[bits]'",
        ) from None
    return AdamW8bit(groups)  # type: ignore[no-any-return]
