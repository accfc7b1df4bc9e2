"""The last layer of classifiers that read one token, the first: computed there alone, with the same result.

Nothing else of that layer reaches the head, or has a gradient. What is left out is five sixths of its products (all but
keys and values): 14% of the products of a model of 6 layers, 7% of 12. Nothing of this is saved; the model stays stock.

B rows, T tokens of the longest of them, H hidden size, D size of an attention head.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

# By config.model_type: layers alike to the letter, and classifiers that take position 0 of what the last one gives.
KINDS = {"bert", "camembert", "electra", "roberta", "xlm-roberta"}
MASKS = {"sdpa", "eager"}  # ways to compute attention whose masks have a line for each query


class FirstTokenLayer(nn.Module):
    """Takes the place of the class of a BERT layer, and gives hidden states (B, 1, H) where that gives (B, T, H)."""

    attention: Any
    feed_forward_chunk: Any

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor | None = None, *_: Any, **__: Any) -> torch.Tensor:
        """hidden: (B, T, H). mask: (B, 1, T or 1, T), what each query may look at; None: at everything."""
        first = hidden[:, :1]
        own = self.attention.self

        def by_head(states: torch.Tensor) -> torch.Tensor:
            return states.view(*states.shape[:2], -1, own.attention_head_size).transpose(1, 2)

        found = nn.functional.scaled_dot_product_attention(
            by_head(own.query(first)),
            by_head(own.key(hidden)),
            by_head(own.value(hidden)),
            attn_mask=None if mask is None else mask[:, :, :1],
            scale=own.scaling,
        )
        attended = self.attention.output(found.transpose(1, 2).reshape(first.shape[0], 1, -1), first)
        return self.feed_forward_chunk(attended)  # type: ignore[no-any-return]


def read_first_token(model: Any) -> None:
    """Let the last layer of a classifier compute its first token alone, where nothing else of it is known to be read.

    Its attention weights must have no dropout (model/loading.py sees to that), since these are not asked for it.
    """
    config = model.config
    if config.model_type not in KINDS or config.is_decoder or config._attn_implementation not in MASKS:
        return
    last = model.base_model.encoder.layer[-1]
    kind: Any = type(last)
    last.__class__ = _first_token_kind(kind)


@cache
def _first_token_kind(layer: type[nn.Module]) -> type[nn.Module]:
    return type(f"FirstToken{layer.__name__}", (FirstTokenLayer, layer), {})
