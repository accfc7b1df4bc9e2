"""Settings -> how every parameter trains: the one planner of the run and of `raysft check`. Pure: names and shapes in.

A parameter stands in the embeddings, in one of n layers, above the layers, or in the head, which is all that the base
does not have. Layer i trains at learning_rate * layer_decay ** (n - 1 - i) (ULMFiT, Howard and Ruder 2018, arXiv
1801.06146, section 3.2), the embeddings one step below the first layer, whatever lies above the layers at the full
rate, the head at its own. `train.rates` comes before all that. Biases and norms do not decay.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from raysft.config.sections import FreezeSection, ModelSection, TrainSection
from raysft.errors import UsageError

LAYER = re.compile(r"(?:^|\.)(?:layers?|h|block)\.(\d+)\.")
NORM = re.compile(r"norm", re.IGNORECASE)  # LayerNorm, final_norm, sa_layer_norm
EMBEDDING = re.compile(r"embed|(?:^|\.)w[tp]e\.")  # word_embeddings, embed_tokens, GPT-2's wte and wpe
UNDER_ADAPTER = ".base_layer."  # peft's name for the layer that an adapter stands beside
EMBEDDINGS, ABOVE, HEAD, FROZEN = "embeddings", "above the layers", "head", "frozen"


class Refused(UsageError):
    """A setting that cannot take effect on this model."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"{key}: {text}")
        self.key, self.text = key, text

    def __reduce__(self) -> tuple[type[Refused], tuple[str, str]]:
        return type(self), (self.key, self.text)


@dataclass(frozen=True)
class Tensor:
    """One parameter of a model, by what its name and shape say."""

    name: str
    shape: tuple[int, ...]
    trains: bool = True  # False: whoever built the model keeps it, such as the base under adapters
    norm: bool = False  # of a normalisation layer

    @property
    def plain_name(self) -> str:
        """As it is called without adapters, which is what patterns are matched with."""
        return self.name.replace(UNDER_ADAPTER, ".")

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def decays(self) -> bool:
        return len(self.shape) >= 2 and not self.norm


@dataclass(frozen=True)
class Part:
    """Tensors that share a peak rate, a decay and the epoch from which they train: a row of the table."""

    name: str
    learning_rate: float
    weight_decay: float
    from_epoch: int  # counted from 0
    tensors: tuple[str, ...]
    parameters: int

    def row(self) -> dict[str, Any]:
        """As people and files see it; epochs counted from 1, 0 for never."""
        return {
            "group": self.name,
            "parameters": self.parameters,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "from_epoch": self.from_epoch + 1,
        }


@dataclass(frozen=True)
class Recipe:
    """How every parameter of a model trains."""

    groups: tuple[Part, ...]
    frozen: tuple[str, ...]  # tensors that model.freeze keeps, or whose turn never comes; in evaluation mode
    kept: int  # parameters that do not train: the frozen ones and the base under adapters

    def rows(self) -> list[dict[str, Any]]:
        """The table: groups from the embeddings up, then what does not train."""
        rest = Part(FROZEN, 0.0, 0.0, -1, (), self.kept).row()
        return [*(part.row() for part in self.groups), *([rest] if self.kept else [])]


class Places:
    """Where in a model a parameter stands. depth: layers of the base; prefix: what names of the base begin with."""

    def __init__(self, names: Iterable[str], prefix: str) -> None:
        self.prefix = prefix + "."
        self.depth = 1 + max((layer_of(name) for name in names), default=-1)

    def height(self, name: str) -> int:
        """0 for the embeddings, 1 to depth for the layers, then what is above them, then the head."""
        if not name.startswith(self.prefix):
            return self.depth + 2
        layer = layer_of(name)
        if layer >= 0:
            return layer + 1
        return 0 if EMBEDDING.search(name) else self.depth + 1

    def label(self, height: int) -> str:
        if 1 <= height <= self.depth:
            return f"layer {height - 1}"
        return {0: EMBEDDINGS, self.depth + 1: ABOVE, self.depth + 2: HEAD}[height]


def layer_of(name: str) -> int:
    """Number of the layer that a parameter belongs to, from 0; -1 for none."""
    found = LAYER.search(name)
    return int(found.group(1)) if found else -1


def make_recipe(tensors: Sequence[Tensor], prefix: str, model: ModelSection, train: TrainSection) -> Recipe:
    """Plan how each of `tensors` trains.

    Raises Refused, with the key, when a setting matches nothing, names what the model has not, contradicts another, or
    leaves nothing to train.
    """
    places = Places((tensor.plain_name for tensor in tensors), prefix)
    frozen = frozen_names(tensors, places, model.freeze)
    training = [tensor for tensor in tensors if tensor.trains and tensor.name not in frozen]
    if not training:
        raise Refused("model.freeze", f"keeps all {len(tensors)} tensors of the model, head included; nothing trains")
    turns = _turns(training, places, model, train)
    never = {tensor.name for tensor in training if turns[tensor.name] >= train.epochs}
    training = [tensor for tensor in training if tensor.name not in never]
    _require_rates_used(tensors, training, train)
    return Recipe(
        groups=_groups(training, places, train, turns),
        frozen=tuple(tensor.name for tensor in tensors if tensor.name in frozen | never),
        kept=sum(tensor.size for tensor in tensors) - sum(tensor.size for tensor in training),
    )


def frozen_names(tensors: Sequence[Tensor], places: Places, freeze: FreezeSection) -> set[str]:
    """Names of the tensors that `model.freeze` keeps."""
    if freeze.layers > places.depth:
        raise Refused("model.freeze.layers", f"the base has {places.depth} layers, found {freeze.layers}")
    top = freeze.layers or (0 if freeze.embeddings else -1)  # height of the highest frozen place
    frozen = {tensor.name for tensor in tensors if places.height(tensor.plain_name) <= top}
    if freeze.pattern is not None:
        matched = {tensor.name for tensor in tensors if re.search(freeze.pattern, tensor.plain_name)}
        if not matched:
            raise Refused("model.freeze.pattern", _matches_nothing(freeze.pattern, tensors))
        frozen |= matched
    return frozen


def _turns(training: list[Tensor], places: Places, model: ModelSection, train: TrainSection) -> dict[str, int]:
    """Epoch from which each tensor trains, from 0: the head alone, then from the top down (`train.unfreeze_every`)."""
    every = train.unfreeze_every
    if every is None:
        return dict.fromkeys((tensor.name for tensor in training), 0)
    if model.lora is not None:
        raise Refused("train.unfreeze_every", "the base under model.lora never trains; remove one of the two")
    if every >= train.epochs:
        raise Refused(
            "train.unfreeze_every", f"less than train.epochs ({train.epochs}), or only the head trains; found {every}"
        )
    # What is above the layers trains together with the uppermost of them.
    level = {t.name: min(places.height(t.name), places.depth) if _of_base(t, places) else math.inf for t in training}
    order = sorted(set(level.values()), reverse=True)
    return {name: order.index(found) * every for name, found in level.items()}


def _of_base(tensor: Tensor, places: Places) -> bool:
    return tensor.name.startswith(places.prefix)


def _groups(training: list[Tensor], places: Places, train: TrainSection, turns: dict[str, int]) -> tuple[Part, ...]:
    found: dict[tuple[int, bool, int, bool], list[Tensor]] = {}
    for tensor in training:
        entry = _entry(tensor.plain_name, train)
        adapter = tensor.plain_name != tensor.name or ".lora_" in tensor.name
        key = (places.height(tensor.plain_name), adapter, -1 if entry is None else entry, not tensor.decays)
        found.setdefault(key, []).append(tensor)
    return tuple(_part(key, found[key], places, train, turns) for key in sorted(found))


def _part(
    key: tuple[int, bool, int, bool], tensors: list[Tensor], places: Places, train: TrainSection, turns: dict[str, int]
) -> Part:
    height, adapter, entry, vectors = key
    rate, decay, label = _rate(height, places, train), train.weight_decay, places.label(height)
    if adapter:
        label += " adapters"
    if entry >= 0:
        own = train.rates[entry]
        rate = rate if own.learning_rate is None else own.learning_rate
        decay = decay if own.weight_decay is None else own.weight_decay
        label += f" like {own.pattern}"
    return Part(
        name=f"{label} (vectors)" if vectors else label,
        learning_rate=rate,
        weight_decay=0.0 if vectors else decay,
        from_epoch=turns[tensors[0].name],
        tensors=tuple(tensor.name for tensor in tensors),
        parameters=sum(tensor.size for tensor in tensors),
    )


def _rate(height: int, places: Places, train: TrainSection) -> float:
    if height > places.depth + 1:
        return train.head_learning_rate
    return train.learning_rate * train.layer_decay ** max(0, places.depth - height)


def _entry(name: str, train: TrainSection) -> int | None:
    """Which of `train.rates` counts for a parameter: the first whose pattern is found in its name."""
    return next((index for index, own in enumerate(train.rates) if re.search(own.pattern, name)), None)


def _require_rates_used(tensors: Sequence[Tensor], training: list[Tensor], train: TrainSection) -> None:
    for index, own in enumerate(train.rates):
        key = f"train.rates.{index}"
        if not any(re.search(own.pattern, tensor.plain_name) for tensor in tensors):
            raise Refused(f"{key}.pattern", _matches_nothing(own.pattern, tensors))
        mine = [tensor for tensor in training if _entry(tensor.plain_name, train) == index]
        if not mine:
            raise Refused(f"{key}.pattern", f"all that {own.pattern!r} matches is frozen, or matched by an entry above")
        if own.weight_decay is not None and not any(tensor.decays for tensor in mine):
            raise Refused(f"{key}.weight_decay", f"{own.pattern!r} matches only biases and norms, which never decay")


def _matches_nothing(pattern: str, tensors: Sequence[Tensor]) -> str:
    shown = ", ".join(tensor.plain_name for tensor in tensors[-3:])
    return f"{pattern!r} matches none of {len(tensors)} parameters; they are called like {shown}"
