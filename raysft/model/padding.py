"""The token that fills up the shorter rows of a batch: which it is, and what a model gets that names none."""

from __future__ import annotations

from typing import Any

from torch import nn

from raysft.errors import UsageError
from raysft.storage.pretrained import Base


def pad_id(model: nn.Module) -> int:
    """The padding token; masked positions may hold any id, so 0 serves where none is named."""
    found: int | None = getattr(model.config, "pad_token_id", None)
    return 0 if found is None else int(found)


def name_padding(config: Any, base: Base) -> None:
    """Where a config names no padding token, take that of the base's tokenizer, else the token that ends a text.

    Classifiers over decoders look for it, to find each row's last token. Raises UsageError where there is neither.
    """
    if getattr(config, "pad_token_id", None) is not None:
        return
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    ends = getattr(config, "eos_token_id", None)
    named = [tokenizer.pad_token_id, tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])]
    # A token that was added to the tokenizer alone has no row among the embeddings.
    known = [token for token in named if token is not None and 0 <= token < config.vocab_size]
    if not known:
        raise UsageError(
            f"model.base: {base.name} names no token to fill up rows with: neither pad_token nor eos_token",
            f'Name one of its tokens as "pad_token" in {base.folder / "tokenizer_config.json"}, or use another base.',
        )
    config.pad_token_id = known[0]


def share_padding(tokenizer: Any, config: Any) -> None:
    """Let a tokenizer without a padding token use that of the model, so that whoever loads both can make batches."""
    found = getattr(config, "pad_token_id", None)
    if tokenizer.pad_token is None and found is not None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(found)
