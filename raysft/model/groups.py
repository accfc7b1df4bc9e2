"""Parameter groups of a model in memory: the recipe's rows with their tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from raysft.config.sections import ModelSection, TrainSection
from raysft.model.recipe import LAYER as LAYER
from raysft.model.recipe import Recipe, Tensor, make_recipe


@dataclass
class Group:
    """Tensors that share a peak rate and a decay."""

    learning_rate: float
    weight_decay: float
    parameters: list[nn.Parameter] = field(repr=False)


def recipe_of(model: nn.Module, train: TrainSection, settings: ModelSection) -> Recipe:
    """How the parameters of a model train. Raises Refused where a setting cannot take effect on it."""
    return make_recipe(tensors_of(model), prefix_of(model), settings, train)


def groups_of(model: nn.Module, recipe: Recipe) -> list[Group]:
    """The recipe's groups with the parameters that the model holds under these names now."""
    named = dict(model.named_parameters())
    return [
        Group(part.learning_rate, part.weight_decay, [named[name] for name in part.tensors]) for part in recipe.groups
    ]


def tensors_of(model: nn.Module) -> list[Tensor]:
    """The parameters of a model by name and shape."""
    norms = {
        id(parameter)
        for module in model.modules()
        if "norm" in type(module).__name__.lower()
        for parameter in module.parameters(recurse=False)
    }
    return [
        Tensor(name, _shape(parameter), parameter.requires_grad, id(parameter) in norms)
        for name, parameter in model.named_parameters()
    ]


def _shape(parameter: nn.Parameter) -> tuple[int, ...]:
    packed = getattr(parameter, "quant_state", None)  # of weights in 4 bits, which lie in one column of bytes
    return tuple(parameter.shape if packed is None else packed.shape)


def prefix_of(model: nn.Module) -> str:
    """What the names of the base's parameters begin with, such as `bert`; the head's do not."""
    return str(getattr(model, "base_model_prefix", ""))
