"""What texts are compared by: the set of their 4-letter pieces, case, punctuation and spacing aside."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

PIECE = 4  # letters
SHIFT = 44  # bits kept of a piece: plenty within one pair of texts, which has thousands of pieces at most
SEPARATOR = "\0"  # clean texts hold no control characters

Array = np.ndarray[Any, Any]


def piece_hashes(texts: Sequence[str]) -> tuple[Array, Array]:
    """Hashes of the 4-letter pieces of each text: uint64 of all texts in a row, and offsets, int64, shape (rows + 1,).

    A text without letters or digits is taken as it stands; one of fewer than four letters is a single piece.
    """
    letters, start = _letters([text.casefold() for text in texts])
    count = np.diff(start)
    pieces = np.maximum(count - PIECE + 1, 1)
    offsets = np.concatenate([[0], np.cumsum(pieces)]).astype(np.int64)
    # Position of each piece in `letters`, which ends with as many zeros as a piece may reach past its row.
    first = np.repeat(start[:-1] - offsets[:-1], pieces) + np.arange(offsets[-1])
    inside = np.repeat(start[1:], pieces)
    key = np.zeros(len(first), np.uint64)
    for place in range(PIECE):
        at = first + place
        key = spread(key ^ np.where(at < inside, letters[np.minimum(at, len(letters) - 1)], 0).astype(np.uint64))
    return key, offsets


def _letters(texts: list[str]) -> tuple[Array, Array]:
    """Letters and digits of all texts as code points, single spaces between words; and where each text starts."""
    codes = _codes(SEPARATOR.join(texts) + SEPARATOR)
    kind = _kinds()[np.minimum(codes, 0xFFFF)]
    kept = codes[kind != _DROP]
    kind = kind[kind != _DROP]
    # A space counts between two letters only: each run of them gives its last one, and none at the end of a text.
    after = np.concatenate([kind[1:], [_END]])
    kept, kind = kept[(kind != _SPACE) | (after == _LETTER)], kind[(kind != _SPACE) | (after == _LETTER)]
    before = np.concatenate([[_END], kind[:-1]])
    lead = (kind == _SPACE) & (before == _END)
    kept, kind = np.where(kind == _SPACE, 32, kept)[~lead], kind[~lead]
    ends = np.flatnonzero(kind == _END)
    length = np.diff(np.concatenate([[-1], ends])) - 1
    letters = kept[kind != _END]
    if not length.all():
        return _with_bare_texts(texts, letters, length)
    return _padded(letters), np.concatenate([[0], np.cumsum(length)])


def _with_bare_texts(texts: list[str], letters: Array, length: Array) -> tuple[Array, Array]:
    """The same where some texts have neither letters nor digits, which stand as they are."""
    parts = np.split(letters, np.cumsum(length)[:-1])
    parts = [part if len(part) else _codes(texts[index]) for index, part in enumerate(parts)]
    start = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    return _padded(np.concatenate(parts)), start


def _padded(letters: Array) -> Array:
    return np.concatenate([letters, np.zeros(1, letters.dtype)])


def _codes(text: str) -> Array:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


_DROP, _LETTER, _SPACE, _END = range(4)


@lru_cache(maxsize=1)
def _kinds() -> Array:
    """What each code point of the basic plane is; all beyond count as the last one: letters."""
    kinds = [_LETTER if chr(c).isalnum() else _SPACE if chr(c).isspace() else _DROP for c in range(0x10000)]
    kinds[0], kinds[0xFFFF] = _END, _LETTER
    return np.array(kinds, np.uint8)


def spread(key: Array) -> Array:
    """A bijection that spreads bits (the finalizer of SplitMix64, Steele, Lea, Flood 2014)."""
    key = key + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(key ^ (key >> np.uint64(31)))


def overlap(texts: Sequence[str], pairs: Array) -> Array:
    """Jaccard similarity of the piece sets of pairs of texts: float64, shape (pairs,).

    pairs: int, shape (pairs, 2), places in `texts`.
    """
    pieces, start = _piece_sets(texts)
    sizes = np.diff(start)
    number = np.arange(len(pairs), dtype=np.uint64) << np.uint64(SHIFT)
    sides = []
    for side in (0, 1):
        size = sizes[pairs[:, side]]
        # The pieces of each pair's text, behind the number of the pair: sorted, and each once.
        first = np.repeat(start[pairs[:, side]] - (np.cumsum(size) - size), size)
        sides.append(np.repeat(number, size) | pieces[first + np.arange(len(first))])
    both = np.sort(np.concatenate(sides))
    shared = both[1:][both[1:] == both[:-1]] >> np.uint64(SHIFT)
    common = np.bincount(shared.astype(np.int64), minlength=len(pairs))
    return np.asarray(common / np.maximum(1, sizes[pairs].sum(axis=1) - common))


def _piece_sets(texts: Sequence[str]) -> tuple[Array, Array]:
    """The distinct pieces of each text in order, uint64 of SHIFT bits; and where each text starts, (texts + 1,)."""
    pieces, offsets = piece_hashes(texts)
    text = np.repeat(np.arange(len(texts), dtype=np.uint64), np.diff(offsets))
    keys = distinct((text << np.uint64(SHIFT)) | (pieces >> np.uint64(64 - SHIFT)))
    start = np.searchsorted(keys, np.arange(len(texts) + 1, dtype=np.uint64) << np.uint64(SHIFT))
    return keys & np.uint64((1 << SHIFT) - 1), start


def distinct(values: Array) -> Array:
    """Sorted, each once. numpy's `unique` hashes integers by their low bits, which are alike here: 20 times slower."""
    ordered = np.sort(values)
    return np.asarray(ordered[changes(ordered)])


def changes(ordered: Array) -> Array:
    """Where a sorted array has another value than just before, bool, its shape; the first is one."""
    return np.concatenate([np.ones(min(1, len(ordered)), bool), ordered[1:] != ordered[:-1]])
