"""A pretrained encoder with a new head that tags each token, always a stock transformers class."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from raysft.config.sections import ModelSection
from raysft.model.classifier import quiet_transformers, start_head
from raysft.model.loading import load_base
from raysft.model.lora import add_adapters
from raysft.model.padding import name_padding
from raysft.storage.pretrained import Base


def build_tagger(base: Base, settings: ModelSection, tags: tuple[str, ...], seed: int) -> nn.Module:
    """The base with a head for `tags`, in float32. The same seed gives the same head, bit for bit.

    With `model.lora` it has adapters, which merge_adapters takes away again.
    Raises UsageError when transformers has no tagger for this architecture, the base has no token to pad with, or
    adapters cannot be added.
    """
    from transformers import AutoConfig, AutoModelForTokenClassification

    quiet_transformers()
    names = dict(enumerate(tags))
    config = AutoConfig.from_pretrained(
        base.folder, num_labels=len(tags), id2label=names, label2id={name: i for i, name in names.items()}
    )
    name_padding(config, base)
    model = load_base(
        AutoModelForTokenClassification,
        base,
        config,
        settings,
        seed,
        "as a tagger of tokens",
        "Use an encoder that transformers offers for token classification (BERT, RoBERTa, DeBERTa, ...).",
        ignore_mismatched_sizes=True,
    )
    start_head(model, seed)
    if settings.lora is not None:
        add_adapters(model, settings, seed)
    return model


def load_tagger(folder: Path) -> nn.Module:
    """A finished artifact, by stock transformers, in evaluation mode."""
    from transformers import AutoModelForTokenClassification

    quiet_transformers()
    model = AutoModelForTokenClassification.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    return model.eval()  # type: ignore[no-any-return]
