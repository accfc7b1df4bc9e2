"""An exponential moving average of the weights, which is what is evaluated and kept (Polyak, Juditsky 1992).

After update t (from 1) every average a moves towards its weight w: a <- d a + (1 - d) w, d = min(decay, t / (t + 9)).
The growing decay is that of TensorFlow's ExponentialMovingAverage, (1 + n) / (10 + n) after n updates: with a fixed one
the untrained head would weigh decay^t, at 0.999 still a third after 1,000 updates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from raysft.model.groups import Group


class Average:
    """Averages of some weights, in float32 beside them: one more copy in memory, one pass an update."""

    def __init__(self, weights: dict[str, nn.Parameter], decay: float) -> None:
        """weights: by name, each of any shape; sharded weights keep sharded averages. Without any, nothing is done."""
        self._weights, self._decay = weights, decay
        self._averages = {name: weight.detach().clone() for name, weight in weights.items()}

    @staticmethod
    def of(model: nn.Module, groups: list[Group], decay: float | None) -> Average:
        """Of all weights that train in some epoch; of none without a decay."""
        training = {parameter for group in groups for parameter in group.parameters} if decay else set()
        return Average({name: p for name, p in model.named_parameters() if p in training}, decay or 0.0)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after update number `step`, from 1."""
        if not self._weights:
            return
        decay = min(self._decay, step / (step + 9))
        torch._foreach_lerp_(list(self._averages.values()), list(self._weights.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the averages meanwhile, and exactly its own weights afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        # By value: FSDP and DDP hold on to the memory of a weight. One tensor at a time, so that no third copy is kept.
        for name, weight in self._weights.items():
            mine = weight.detach().clone()
            weight.copy_(self._averages[name])
            self._averages[name].copy_(mine)

    def state(self) -> dict[str, torch.Tensor]:
        """Average by name of weight, for a checkpoint."""
        return self._averages

    @torch.no_grad()
    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` gave."""
        for name, average in self._averages.items():
            average.copy_(state[name])
