"""A base in 4 bits under adapters (QLoRA, Dettmers et al. 2023, arXiv 2305.14314), through bitsandbytes.

Linear layers within the layers become NormalFloat4 with doubly quantized constants. They never train, so checkpoints
leave them out: the base's own weights give them again, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from raysft.config.sections import ModelSection
from raysft.model.recipe import layer_of


def quantize_layers(model: nn.Module) -> None:
    """Put 4-bit layers in the place of the linear layers within the layers, on the GPU if there is one."""
    from bitsandbytes.nn import Linear4bit

    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, linear in list(model.named_modules()):
        if type(linear) is nn.Linear and layer_of(name + ".") >= 0:
            bias = linear.bias is not None
            small = Linear4bit(linear.in_features, linear.out_features, bias, quant_type="nf4")
            small.load_state_dict(linear.state_dict())
            model.set_submodule(name, small.to(device).requires_grad_(False))
    setattr(model, "is_loaded_in_4bit", True)  # noqa: B010  # which peft asks for; mypy refuses the plain form


def leave_out_of_state(model: nn.Module) -> None:
    """Take the 4-bit weights out of what the model saves."""
    for _, layer in _small_layers(model):

        def drop(_: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
            for key in [each for each in state if each.startswith(f"{prefix}weight")]:
                del state[key]

        layer.register_state_dict_post_hook(drop)


def dequantized(model: nn.Module, whole: nn.Module) -> nn.Module:
    """`whole`, the same model built without quantizing, with all that `model` holds: what the adapters learnt beside is
    what they are merged into."""
    from bitsandbytes.functional import dequantize_4bit

    state = model.state_dict()
    for name, layer in _small_layers(model):
        state[f"{name}.weight"] = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    whole.load_state_dict(state)
    return whole


def is_quantized(model: nn.Module) -> bool:
    """Whether layers of the model are held in 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def without_quantizing(settings: ModelSection) -> ModelSection:
    """The same `model` section, the base in full precision."""
    lora = settings.lora and settings.lora.model_copy(update={"quantize": None})
    return settings.model_copy(update={"lora": lora})


def _small_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    if not is_quantized(model):
        return
    from bitsandbytes.nn import Linear4bit

    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            yield name, module
