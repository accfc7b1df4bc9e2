"""How the ranks share one model: each step of `parallelize` wraps what the step before it gave."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raysft.training import ranks


class Parallel:
    """The module that forward passes go through, and what depends on how it is shared."""

    def __init__(self, model: nn.Module) -> None:
        self.module = DistributedDataParallel(model) if ranks.world_size() > 1 else model

    def accumulating(self, last: bool) -> AbstractContextManager[object]:
        """Around forward and backward of one micro-batch: gradients are exchanged at the last of a step only."""
        if last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        return self.module.no_sync()

    def clip(self, parameters: Iterable[nn.Parameter], limit: float) -> torch.Tensor:
        """Scale gradients so that their global norm is at most `limit`; the norm before, float32 scalar."""
        return nn.utils.clip_grad_norm_(parameters, limit)
