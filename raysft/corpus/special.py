"""Which tokens of a tokenizer stand for no text."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=4)
def special_ids(tokenizer: str) -> frozenset[int]:
    """The tokens that stand for no text: [CLS], [SEP], [PAD], [MASK], [UNK] and their like, by tokenizer.json."""
    from tokenizers import Tokenizer

    added = Tokenizer.from_file(tokenizer).get_added_tokens_decoder()
    return frozenset(number for number, token in added.items() if token.special)
