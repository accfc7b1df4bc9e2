"""Low-rank adapters beside the linear layers of a base (LoRA, Hu et al. 2021, arXiv 2106.09685), through peft.

DoRA: Liu et al. 2024, arXiv 2402.09353. rsLoRA scales by alpha / sqrt(r): Kalajdzievski 2023, arXiv 2312.03732.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from raysft.config.sections import LoraSection, ModelSection
from raysft.model.adapters import NAME, adapted_layers
from raysft.model.groups import prefix_of, tensors_of
from raysft.model.quantize import leave_out_of_state, quantize_layers
from raysft.model.recipe import Places, frozen_names

if TYPE_CHECKING:
    from peft import PeftConfig

ADAPTER_WEIGHTS = "adapter_model.safetensors"  # as peft calls it


def add_adapters(model: nn.Module, settings: ModelSection, seed: int, known: Collection[str] = ()) -> None:
    """Put adapters beside the layers that `model.lora` names; then they and a new head require gradients, the base not.

    known: parameters whose values are those of the base, a head over the vocabulary among them.
    They start as no change at all (B is zero); the same seed draws the same A. Raises Refused (see adapted_layers).
    """
    from peft import inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D  # a linear layer as GPT-2 has it

    lora = settings.lora
    assert lora is not None
    head = [name for name, _ in model.named_parameters() if not name.startswith(prefix_of(model) + ".")]
    tensors = tensors_of(model)
    places = Places((tensor.name for tensor in tensors), prefix_of(model))
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    layers = adapted_layers(linear, places, lora, frozen_names(tensors, places, settings.freeze))
    if lora.quantize is not None:
        quantize_layers(model)
    torch.manual_seed(seed)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # peft says that it sees a Conv1D
        inject_adapter_in_model(_peft_config(lora, layers), model, NAME)
    for name in head:
        model.get_parameter(name).requires_grad_(name not in known)
    leave_out_of_state(model)


def _peft_config(lora: LoraSection, layers: tuple[str, ...]) -> PeftConfig:
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type,unused-ignore]  # annotated int, used as a factor
        lora_dropout=lora.dropout,
        target_modules=list(layers),
        use_rslora=lora.variant == "rslora",
        use_dora=lora.variant == "dora",
    )


def save_adapters(model: nn.Module, base: str, folder: Path) -> None:
    """Write the adapters alone, as peft's PeftModel.from_pretrained(base model, folder) reads them.

    base: hub id or folder of what they stand beside. A model without adapters leaves nothing.
    """
    if not hasattr(model, "peft_config"):
        return
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    config: PeftConfig = model.peft_config[NAME]  # type: ignore[index,operator,assignment,union-attr,unused-ignore]
    config.base_model_name_or_path, config.inference_mode = base, True
    folder.mkdir()
    config.save_pretrained(str(folder))
    # peft's own wrapper calls the model within it base_model.model.
    state = {f"base_model.model.{name}": value for name, value in get_peft_model_state_dict(model).items()}
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, folder / ADAPTER_WEIGHTS)


def merge_adapters(model: nn.Module) -> None:
    """Add each adapter to the layer it stands beside and take it away: what is left is the stock model.

    A model without adapters is left alone.

    Raises ValueError when an adapter holds numbers that are not finite.
    """
    if not hasattr(model, "peft_config"):
        return
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)
            model.set_submodule(name, module.get_base_layer())
    del model.peft_config
