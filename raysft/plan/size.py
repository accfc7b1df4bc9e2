"""The size of a model, read from its files without loading it."""

from __future__ import annotations

import json
import struct

from raysft.plan.plan import ModelSize
from raysft.storage.pretrained import WEIGHTS, Base


def model_size(base: Base) -> ModelSize:
    """Parameters and shape, from the header of the safetensors file and config.json."""
    with (base.folder / WEIGHTS).open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    config = base.config
    vocabulary = int(config.get("vocab_size", -1))
    parameters = embedding = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        count = 1
        for side in tensor["shape"]:
            count *= side
        parameters += count
        if tensor["shape"][:1] == [vocabulary]:
            embedding += count
    hidden = int(config.get("hidden_size", config.get("dim", config.get("d_model", 768))))
    layers = int(config.get("num_hidden_layers", config.get("n_layers", 12)))
    inner = int(config.get("intermediate_size", config.get("hidden_dim", 4 * hidden)))
    return ModelSize(parameters, embedding, hidden, layers, inner)
