"""What texts are compared by: the set of their 4-letter pieces, case, punctuation and spacing aside."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import Any

import numpy as np

PIECE = 4  # letters
SHIFT = 44  # bits kept of a piece: plenty within one pair of texts, which has thousands of pieces at most
SEPARATOR = "\0"  # clean texts hold no control characters
LOAD = 2 * 10**6  # characters of the texts that a thread compares at once, or one pair: 0.1 GB, 52 bytes for each
READ = 10 * LOAD  # characters of the texts that are read at once
MANY = 200_000  # pairs whose texts are read at once
# Marks that some people write and others leave out. All others are part of a word, as vowel signs are in Hindi or Thai.
OPTIONAL_MARKS = (
    range(0x0300, 0x0370),  # accents; those that belong to a letter are one with it in clean texts
    range(0x0591, 0x05C8),  # Hebrew points
    range(0x064B, 0x0653),  # Arabic vowels
    range(0x0670, 0x0671),  # Arabic alef above a letter
    range(0x20D0, 0x2100),  # around symbols, such as the key of a keycap emoji
    range(0xFE00, 0xFE10),  # variation selectors: whether a heart is an emoji
)

Array = np.ndarray[Any, Any]
Texts = Callable[[Array], list[str]]
Each = Callable[[Callable[[Array], Array], Iterable[Array]], Iterable[Array]]


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
    kinds = [_LETTER if _in_words(chr(c)) else _SPACE if chr(c).isspace() else _DROP for c in range(0x10000)]
    kinds[0], kinds[0xFFFF] = _END, _LETTER
    return np.array(kinds, np.uint8)


def _in_words(character: str) -> bool:
    """Whether words differ by it: letters, digits, and the marks that nobody leaves out."""
    if unicodedata.category(character).startswith("M"):
        return not any(ord(character) in marks for marks in OPTIONAL_MARKS)
    return character.isalnum()


def spread(key: Array) -> Array:
    """A bijection that spreads bits (the finalizer of SplitMix64, Steele, Lea, Flood 2014)."""
    key = key + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(key ^ (key >> np.uint64(31)))


def portions(pairs: Array, sizes: Array, load: int, most: int) -> Iterator[Array]:
    """Stretches of at most `most` pairs whose texts have at most `load` characters; a longer pair stands alone.

    pairs: int, shape (pairs, 2), places in `sizes`, the characters of each text. A text counts in each of its pairs,
    since `overlap` lays its pieces out for each.
    """
    size = sizes[pairs[:, 0]].astype(np.int64) + sizes[pairs[:, 1]]
    read = np.concatenate([[0], np.cumsum(size)])
    start = 0
    while start < len(pairs):
        within = int(np.searchsorted(read, read[start] + load, "right")) - 1
        end = min(max(within, start + 1), start + most)
        yield pairs[start:end]
        start = end


def resembling(pairs: Array, sizes: Array, texts_at: Texts, similarity: float, most: int, each: Each = map) -> Array:
    """Whether the two texts of each pair overlap by `similarity` or more: bool, shape (pairs,).

    pairs: int, shape (pairs, 2), rows. sizes: the characters of each row's text. most: pairs that are compared at once.
    each: `map` of whoever shall compare. Texts are read READ characters at a time, since the rows of pairs lie anywhere
    and each time most of the file is gone through; and compared LOAD at a time, since that takes far more memory.
    """

    def read_and_compare(stretch: Array) -> list[Array]:
        rows, place = np.unique(stretch, return_inverse=True)
        texts = texts_at(rows)
        parts = portions(place.reshape(-1, 2), sizes[rows], LOAD, most)
        return [found >= similarity for found in each(partial(_overlap_of_few, texts), parts)]

    found = [read_and_compare(stretch) for stretch in portions(pairs, sizes, READ, MANY)]
    return np.concatenate([np.zeros(0, bool), *chain.from_iterable(found)])


def _overlap_of_few(texts: Sequence[str], pairs: Array) -> Array:
    """`overlap` of pairs in which few of the texts stand."""
    used, place = np.unique(pairs, return_inverse=True)
    return overlap([texts[at] for at in used], place.reshape(-1, 2))


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
