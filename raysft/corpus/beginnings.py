"""Long texts are tokenized as far as their tokens are kept; how many more there would be is estimated.

A single cell of 12 MB would else cost 15 seconds and 2 GB for tokens that nobody keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

LOOKED_AT = 1 << 16  # characters; shorter texts are always tokenized whole
PER_TOKEN = 64  # characters; words of any language are shorter
SURPLUS = 2  # times max_length: the tokens next to the cut may be other ones, those that are kept are not

T = TypeVar("T")
Encode = Callable[[list[str]], list[tuple[T, int]]]  # texts -> what they become, and how many tokens they have


def beginnings(texts: list[str], max_length: int, encode: Encode[T]) -> list[tuple[T, int]]:
    """encode(texts), where of a text of more than LOOKED_AT characters only the beginning is encoded.

    Its number of tokens is then that of the beginning, scaled up to the whole.
    """
    size = max(LOOKED_AT, PER_TOKEN * max_length)
    found = encode([text if len(text) <= size else "" for text in texts])
    for place, text in enumerate(texts):
        if len(text) > size:
            found[place] = _of_long(text, size, max_length, encode)
    return found


def _of_long(text: str, size: int, max_length: int, encode: Encode[T]) -> tuple[T, int]:
    """More and more of the text, until it gives more tokens than are kept."""
    while size < len(text):
        head = _whole_words(text[:size])
        ((found, length),) = encode([head])
        if length >= SURPLUS * max_length:
            return found, round(length * len(text) / len(head))
        size *= 4
    ((found, length),) = encode([text])
    return found, length


def _whole_words(head: str) -> str:
    """Without the word that is cut at its end; where there are no spaces, as it is."""
    words = head.rsplit(None, 1)
    return words[0] if words and 2 * len(words[0]) > len(head) else head
