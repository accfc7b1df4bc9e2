"""Dynamic loss scaling, without which small float16 gradients become zero (Micikevicius et al. 2018, arXiv 1710.03740).

The policy is that of torch.amp.GradScaler: start at 2^16, halve after a step whose gradients overflowed and leave that
step out, double after 2000 good steps in a row. Ours because whether a step is good is read off the global gradient
norm, which all ranks share already under DDP and FSDP, and because nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

START = 2.0**16
GROWTH_STEPS = 2000
LARGEST = 2.0**96  # a scale beyond float32 would make every loss infinite; below it, powers of two are exact


class LossScaler:
    """The scale of the loss, a power of two on the device; stays 1 unless `enabled`."""

    def __init__(self, device: torch.device, enabled: bool) -> None:
        self.enabled = enabled
        self._scale = torch.full((), START if enabled else 1.0, device=device)
        self._good = torch.zeros((), device=device)  # steps since the scale last changed

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """What to call backward on: loss * scale. A loss that is not finite makes the whole gradient NaN.

        So it reaches every rank with the gradients, and one look at their norm tells all ranks alike.
        """
        return loss * (self._scale + 0.0 * loss.detach())

    def unscale(self, parameters: Iterable[nn.Parameter]) -> None:
        """Divide the gradients by the scale, in place; before anything looks at their size."""
        if not self.enabled:
            return
        local = [_local(parameter.grad) for parameter in parameters if parameter.grad is not None]
        for device in {gradient.device for gradient in local}:
            together = [gradient for gradient in local if gradient.device == device]
            torch._foreach_mul_(together, self._scale.reciprocal().to(device))

    def update(self, bad: torch.Tensor) -> None:
        """After a step. bad: bool scalar on any device, whether its gradients were not finite."""
        if not self.enabled:
            return
        bad = bad.to(self._scale.device)
        good = torch.where(bad, 0.0, self._good + 1)
        grown = torch.where(good == GROWTH_STEPS, (self._scale * 2).clamp(max=LARGEST), self._scale)
        self._scale = torch.where(bad, self._scale / 2, grown)
        self._good = torch.where(good == GROWTH_STEPS, 0.0, good)

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps; waits for the device."""
        return {"scale": self._scale.item(), "good": self._good.item()} if self.enabled else {}

    def load(self, state: dict[str, float]) -> None:
        """Go on from `state`; without one, as begun."""
        if self.enabled and state:
            self._scale.fill_(state["scale"])
            self._good.fill_(state["good"])


def _local(gradient: Any) -> torch.Tensor:
    """This rank's part of a sharded gradient, sharing its memory."""
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient
