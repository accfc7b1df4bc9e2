"""Parameter groups: which rate and decay each tensor trains with, as a table people can read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from torch import nn

from raysft.config.sections import TrainSection

LAYER = re.compile(r"(?:^|\.)(?:layers?|h|block)\.(\d+)\.")


@dataclass
class Group:
    """Tensors that share a peak rate and a decay."""

    name: str
    learning_rate: float
    weight_decay: float
    parameters: list[nn.Parameter] = field(default_factory=list, repr=False)

    @property
    def size(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)


def parameter_groups(model: nn.Module, settings: TrainSection) -> list[Group]:
    """Groups from the embeddings up to the head.

    Layer i of n trains at learning_rate * layer_decay ** (n - i), the embeddings one step below the first layer,
    whatever lies above the layers at the full rate, and the head at its own rate. Vectors (biases, norms) do not decay.
    """
    prefix = str(getattr(model, "base_model_prefix", "")) + "."
    depth = 1 + max((_layer(name) for name, _ in model.named_parameters()), default=-1)
    groups: dict[tuple[str, bool], Group] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        place, rate = _place(name, prefix, depth, settings)
        decays = parameter.ndim >= 2
        key = (place, decays)
        if key not in groups:
            label = place if decays else f"{place} (vectors)"
            groups[key] = Group(label, rate, settings.weight_decay if decays else 0.0)
        groups[key].parameters.append(parameter)
    return list(groups.values())


def _place(name: str, prefix: str, depth: int, settings: TrainSection) -> tuple[str, float]:
    if not name.startswith(prefix):
        return "head", settings.head_learning_rate
    layer = _layer(name)
    if layer >= 0:
        return f"layer {layer}", settings.learning_rate * settings.layer_decay ** (depth - 1 - layer)
    if "embedding" in name:
        return "embeddings", settings.learning_rate * settings.layer_decay**depth
    return "above the layers", settings.learning_rate


def _layer(name: str) -> int:
    found = LAYER.search(name)
    return int(found.group(1)) if found else -1
