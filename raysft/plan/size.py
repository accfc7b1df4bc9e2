"""The size of a model, read from its files without loading it."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

from raysft.plan.plan import ModelSize
from raysft.storage.pretrained import WEIGHTS, Base


def model_size(base: Base) -> ModelSize:
    """Parameters and shape, from the header of the safetensors file and config.json."""
    config, shapes = base.config, tensor_shapes(base).values()
    vocabulary = int(config.get("vocab_size", -1))
    parameters = sum(math.prod(shape) for shape in shapes)
    embedding = sum(math.prod(shape) for shape in shapes if shape[:1] == (vocabulary,))
    hidden = int(config.get("hidden_size", config.get("dim", config.get("d_model", 768))))
    inner = int(config.get("intermediate_size", config.get("hidden_dim", 4 * hidden)))
    return ModelSize(parameters, embedding, hidden, layers_of(config), inner)


def tensor_shapes(base: Base) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the base by its name, from the header of the safetensors file."""
    with (base.folder / WEIGHTS).open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}


def layers_of(config: Mapping[str, Any]) -> int:
    """How many transformer layers a config.json names."""
    return int(config.get("num_hidden_layers", config.get("n_layers", 12)))
