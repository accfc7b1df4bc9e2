"""Which parameters of a model train in which epoch, and that the others stay as they are, in evaluation mode."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from raysft.config.sections import ModelSection, TrainSection
from raysft.model.groups import Group, groups_of, recipe_of


class Approach:
    """Freezing and gradual unfreezing (Howard and Ruder 2018, arXiv 1801.06146, section 3.3) of one model.

    What trains is a function of the epoch alone, so a resumed run needs no state of it. Parameters are looked up by
    name each time, since sharding replaces them. Raises Refused where a setting cannot take effect.
    """

    def __init__(self, model: nn.Module, settings: ModelSection, train: TrainSection) -> None:
        self._model = model
        self.recipe = recipe_of(model, train, settings)
        self._resting: list[nn.Module] = []
        self.begin(0)

    def groups(self) -> list[Group]:
        """All groups that train in some epoch: an optimizer skips those without a gradient."""
        return groups_of(self._model, self.recipe)

    def begin(self, epoch: int) -> bool:
        """Let train what trains in this epoch, counted from 0; True when that has changed."""
        training = {name for part in self.recipe.groups if part.from_epoch <= epoch for name in part.tensors}
        waiting = {name for part in self.recipe.groups for name in part.tensors} - training
        frozen = waiting | set(self.recipe.frozen)
        changed = False
        for name, parameter in self._model.named_parameters():
            trains = name in training
            changed |= parameter.requires_grad is not trains
            parameter.requires_grad_(trains)
        self._resting = resting_modules(self._model, frozen)
        return changed

    def train_mode(self) -> None:
        """Training mode for all but the modules that rest: these have no dropout and keep their running statistics."""
        self._model.train()
        for module in self._resting:
            module.eval()


def resting_modules(model: nn.Module, frozen: Collection[str]) -> list[nn.Module]:
    """Modules all of whose parameters are frozen, with whatever they contain; those without parameters follow."""
    found = []
    for name, module in model.named_modules():
        inside = [f"{name}.{each}" if name else each for each, _ in module.named_parameters()]
        if inside and all(each in frozen for each in inside):
            found.append(module)
    return found
