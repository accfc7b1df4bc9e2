"""A pretrained encoder with a new classification head, always a stock transformers class."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from raysft.config.sections import ModelSection
from raysft.model.first_token import read_first_token
from raysft.model.groups import prefix_of
from raysft.model.loading import load_base
from raysft.model.lora import add_adapters
from raysft.model.padding import name_padding
from raysft.model.recipe import Refused
from raysft.storage.pretrained import POOLING, Base

POOLER_GAIN = 2.0


ONE_LABEL, SEVERAL_LABELS = "single_label_classification", "multi_label_classification"  # as transformers names them


def build_classifier(
    base: Base, settings: ModelSection, labels: tuple[str, ...], seed: int, problem: str = ONE_LABEL
) -> nn.Module:
    """The base with a head for `labels`, in float32. The same seed gives the same head, bit for bit.

    problem: ONE_LABEL or SEVERAL_LABELS of each row, which the artifact's users read from its config.json.
    With `model.lora` it has adapters, which merge_adapters takes away again.
    Raises UsageError when transformers has no classifier for this architecture, the base has no token to pad with or
    no pooler where `model.pooler` asks for one, or adapters cannot be added.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    quiet_transformers()
    names = dict(enumerate(labels))
    config = AutoConfig.from_pretrained(
        base.folder, num_labels=len(labels), id2label=names, label2id={name: i for i, name in names.items()}
    )
    config.problem_type = problem
    name_padding(config, base)
    model = load_base(
        AutoModelForSequenceClassification,
        base,
        config,
        settings,
        seed,
        "as a classifier",
        "Use an encoder that transformers offers for sequence classification (BERT, RoBERTa, DeBERTa, ...).",
        ignore_mismatched_sizes=True,
    )
    start_head(model, seed)
    _start_pooler(model, base, settings.pooler)
    if settings.lora is not None:
        add_adapters(model, settings, seed)
    read_first_token(model)
    return model


def start_head(model: nn.Module, seed: int) -> None:
    """Draw the head's linear layers anew, the last one first: a base that was a classifier before must not lend what it
    learnt for its old labels."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for linear in reversed(head_of(model)):
            linear.weight.normal_(0.0, float(getattr(model.config, "initializer_range", 0.02)), generator=generator)
            if linear.bias is not None:
                linear.bias.zero_()


def head_of(model: nn.Module) -> list[nn.Linear]:
    """The linear layers outside the body, in their order; the last one gives the logits."""
    body = prefix_of(model) + "."
    named = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [module for name, module in named if not name.startswith(body)]


def _start_pooler(model: nn.Module, base: Base, asked: str) -> None:
    if asked != "identity" and not (asked == "auto" and is_sentence_encoder(base.folder)):
        return
    if not open_pooler(model) and asked == "identity":
        kind = type(model).__name__
        raise Refused(
            "model.pooler",
            f"identity needs a pooler between first token and head; {kind} ({base.name}) has none; use auto or keep",
        )


def load_classifier(folder: Path) -> nn.Module:
    """A finished artifact, of a stock class, in evaluation mode."""
    from transformers import AutoModelForSequenceClassification

    quiet_transformers()
    model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    read_first_token(model)
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


def quiet_transformers() -> None:
    """No progress bars and no notes on freshly initialised heads: that is what we asked for."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
