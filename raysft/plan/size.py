"""The size of a model, read from its files without loading it."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from raysft.plan.plan import ModelSize
from raysft.storage.pretrained import WEIGHTS, Base


def model_size(base: Base) -> ModelSize:
    """Parameters and shape, from the header of the safetensors file and config.json."""
    config, shapes = base.config, tensor_shapes(base).values()
    vocabulary = int(config.get("vocab_size", -1))
    parameters = sum(math.prod(shape) for shape in shapes)
    embedding = sum(math.prod(shape) for shape in shapes if shape[:1] == (vocabulary,))
    hidden = _named(config, ("hidden_size", "dim", "d_model", "n_embd"), 768)
    inner = _named(config, ("intermediate_size", "hidden_dim", "n_inner"), 4 * hidden)
    return ModelSize(parameters, embedding, hidden, layers_of(config), inner)


def tensor_shapes(base: Base) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the base by its name, from the header of the safetensors file."""
    with (base.folder / WEIGHTS).open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}


def layers_of(config: Mapping[str, Any]) -> int:
    """How many transformer layers a config.json names."""
    return _named(config, ("num_hidden_layers", "n_layers", "n_layer"), 12)


def _named(config: Mapping[str, Any], names: Sequence[str], otherwise: int) -> int:
    """The first of these that a config.json gives; architectures call the same number differently."""
    return next((int(config[name]) for name in names if config.get(name) is not None), otherwise)
