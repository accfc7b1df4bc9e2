"""Which tokens of a tokenizer stand for no text."""

from __future__ import annotations

import functools
from itertools import takewhile
from pathlib import Path
from typing import Any


@functools.lru_cache(maxsize=4)
def special_ids(tokenizer: str) -> frozenset[int]:
    """The tokens that stand for no text: [CLS], [SEP], [PAD], [MASK], [UNK] and their like, by tokenizer.json."""
    from tokenizers import Tokenizer

    added = Tokenizer.from_file(tokenizer).get_added_tokens_decoder()
    return frozenset(number for number, token in added.items() if token.special)


def marks_before(tokenizer: Path) -> list[str]:
    """The tokens that a tokenizer puts before a text, such as <s>."""
    encoding = untruncated(str(tokenizer)).encode("a")
    places = zip(encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
    return [token for token, _, _ in takewhile(lambda each: each[1] and each[2][0] == each[2][1], places)]


def end_tokens(tokenizer: Path, closing: str, adds_marks: bool) -> list[int]:
    """What follows a learnt answer: the first mark that the template writes there (closing), or the tokenizer puts
    there; none where it is plain words."""
    library, special = untruncated(str(tokenizer)), special_ids(str(tokenizer))
    written = [token for token in library.encode(closing, add_special_tokens=False).ids if token in special]
    return written[:1] or (added_behind(library.encode("a"))[:1] if adds_marks else [])


def added_behind(encoding: Any) -> list[int]:
    """The tokens that a tokenizer puts behind a text; they stand for none of its characters."""
    kinds = zip(encoding.ids, encoding.special_tokens_mask, encoding.offsets, strict=True)
    found: list[int] = []
    for token, special, (start, end) in reversed(list(kinds)):
        if not special or end > start:
            break
        found.insert(0, token)
    return found


@functools.lru_cache(maxsize=4)
def untruncated(tokenizer: str) -> Any:
    """A tokenizer that neither cuts nor pads (tokenizers.Tokenizer), from tokenizer.json."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(tokenizer)
    found.no_padding()
    found.no_truncation()
    return found
