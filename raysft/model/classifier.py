"""A pretrained encoder with a new classification head, always a stock transformers class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from raysft.config.sections import ModelSection
from raysft.errors import UsageError
from raysft.storage.pretrained import POOLING, Base

POOLER_GAIN = 2.0


def build_classifier(base: Base, settings: ModelSection, labels: tuple[str, ...], seed: int) -> nn.Module:
    """The base with a head for `labels`, in float32. The same seed gives the same head, bit for bit.

    Raises UsageError when transformers has no classifier for this architecture.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    quiet_transformers()
    names = dict(enumerate(labels))
    config = AutoConfig.from_pretrained(
        base.folder, num_labels=len(labels), id2label=names, label2id={name: i for i, name in names.items()}
    )
    config.problem_type = "single_label_classification"
    _set_dropout(config, settings.dropout)
    torch.manual_seed(seed)
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            base.folder, config=config, use_safetensors=True, dtype=torch.float32, ignore_mismatched_sizes=True
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise UsageError(
            f"model.base: {base.name} cannot be loaded as a classifier: {str(error).splitlines()[0]}",
            "Use an encoder that transformers offers for sequence classification (BERT, RoBERTa, DeBERTa, ...).",
        ) from None
    _start_head(model, seed)
    if settings.pooler == "identity" or (settings.pooler == "auto" and is_sentence_encoder(base.folder)):
        open_pooler(model)
    return model  # type: ignore[no-any-return]


def _start_head(model: nn.Module, seed: int) -> None:
    """Draw the last linear layer anew: a base that was a classifier before must not lend its old labels' weights."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        last.weight.normal_(0.0, float(getattr(model.config, "initializer_range", 0.02)), generator=generator)
        if last.bias is not None:
            last.bias.zero_()


def load_classifier(folder: Path) -> nn.Module:
    """A finished artifact, by stock transformers, in evaluation mode."""
    from transformers import AutoModelForSequenceClassification

    quiet_transformers()
    model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    return model.eval()  # type: ignore[no-any-return]


def is_sentence_encoder(folder: Path) -> bool:
    """Whether the base was trained as a sentence-transformers encoder that pools over all tokens."""
    return (folder / POOLING).is_file()


def open_pooler(model: nn.Module) -> bool:
    """Replace the pooler's matrix by POOLER_GAIN times the identity; False when the model has none.

    A sentence encoder averages its tokens and never trains the pooler between first token and head, so what the
    checkpoint holds there scrambles good features. Measured on Banking77, 10 rows a class, validation accuracy, one
    seed: 0.835 with the pooler as shipped, 0.862 with 2I; averaging the tokens outside the stock class gives 0.863.
    """
    pooler = getattr(getattr(model, "base_model", None), "pooler", None)
    dense = getattr(pooler, "dense", None)
    if not isinstance(dense, nn.Linear) or dense.in_features != dense.out_features:
        return False
    with torch.no_grad():
        dense.weight.copy_(torch.eye(dense.in_features) * POOLER_GAIN)
        dense.bias.zero_()
    return True


def _set_dropout(config: Any, rate: float | None) -> None:
    """Hidden dropout as asked or as the base has it; none on attention weights.

    With attention dropout torch falls back from its fused attention to separate products. Measured on Banking77,
    10 rows a class, validation accuracy, one seed: 0.862 with and without (0.840 without any dropout).
    """
    for name, value in config.to_dict().items():
        if "dropout" not in name or not (value is None or isinstance(value, float)):
            continue
        if name.startswith("attention"):
            setattr(config, name, 0.0)
        elif rate is not None:
            setattr(config, name, rate)


def quiet_transformers() -> None:
    """No progress bars and no notes on freshly initialised heads: that is what we asked for."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
