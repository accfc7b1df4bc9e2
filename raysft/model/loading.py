"""A stock transformers model from a base folder: safetensors only, float32, new parts drawn from the seed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from raysft.config.sections import ModelSection
from raysft.errors import UsageError
from raysft.model.attention import implementation
from raysft.storage.pretrained import Base


def load_base(
    kind: Any, base: Base, config: Any, settings: ModelSection, seed: int, purpose: str, instead: str, **more: Any
) -> nn.Module:
    """The base as a model of `kind`, one of transformers' auto classes; more: for its from_pretrained.

    Raises UsageError, which says that it is no such thing (`purpose`) and what to use (`instead`).
    """
    set_dropout(config, settings.dropout)
    torch.manual_seed(seed)
    try:
        model: nn.Module = kind.from_pretrained(
            base.folder,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation=implementation(settings.attention),
            **more,
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise UsageError(
            f"model.base: {base.name} cannot be loaded {purpose}: {str(error).splitlines()[0]}", instead
        ) from None
    return model


def set_dropout(config: Any, rate: float | None) -> None:
    """Hidden dropout as asked or as the base has it; none on attention weights.

    With attention dropout torch falls back from its fused attention to separate products. Measured on Banking77,
    10 rows a class, validation accuracy, one seed: 0.862 with and without (0.840 without any dropout).
    """
    for name, value in config.to_dict().items():
        named = "dropout" in name or name.endswith("_pdrop")  # as GPT-2 calls it
        if not named or not (value is None or isinstance(value, float)):
            continue
        if name.startswith("att"):
            setattr(config, name, 0.0)
        elif rate is not None:
            setattr(config, name, rate)
