"""Texts that are almost the same: MinHash signatures, and the pairs they lead to, each checked exactly.

Two texts are near-duplicates when their sets of 4-letter pieces (case, punctuation and spacing aside) overlap by at
least `similarity` (Jaccard). Signatures are computed batch by batch where rows are read, by rensa (MinHash in Rust),
and kept as a few 32-bit band keys a row; pairs are found on the driver, one band at a time, so that memory stays at a
few bytes a row (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3rd ed., section 3.4).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

PERMUTATIONS = 128
PIECE = 4  # letters
RECALL = 0.995  # wanted at exactly `similarity`
BACK = 6  # rows of one band key that a row is compared with, besides the first; all with all would be quadratic
CHUNK = 20_000  # pairs checked at once
SHIFT = 44  # bits kept of a piece: plenty within one pair of texts, which has thousands of pieces at most
SEPARATOR = "\0"  # clean texts hold no control characters

Array = np.ndarray[Any, Any]


def band_shape(similarity: float) -> tuple[int, int]:
    """(bands, rows of each) of the most selective cut of a signature that still finds RECALL of the pairs.

    A pair of similarity s shares a band of r rows with probability s^r, so at least one of b with 1 - (1 - s^r)^b.
    """
    for rows in range(PERMUTATIONS, 0, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - similarity**rows) ** bands >= RECALL:
            return bands, rows
    return PERMUTATIONS, 1


def band_keys(texts: Sequence[str], similarity: float) -> Array:
    """Band keys of clean texts: uint32, shape (rows, bands). Texts that share one are worth comparing."""
    bands, rows = band_shape(similarity)
    if not texts:
        return np.zeros((0, bands), np.uint32)
    used = signatures(texts, bands * rows).reshape(len(texts), bands, rows).astype(np.uint64)
    key = np.zeros((len(texts), bands), np.uint64)
    for place in range(rows):
        key = spread(key ^ used[:, :, place])
    return (key >> np.uint64(32)).astype(np.uint32)


def signatures(texts: Sequence[str], permutations: int = PERMUTATIONS) -> Array:
    """MinHash signatures, uint32, shape (rows, permutations)."""
    from rensa import RMinHash

    pieces, offsets = piece_hashes(texts)
    rows = RMinHash.digest_matrix_from_flat_token_hashes(pieces, offsets, permutations, 1).to_rows()
    flat = np.fromiter(chain.from_iterable(rows), np.uint32, len(texts) * permutations)
    return flat.reshape(len(texts), permutations)


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


def near_pairs(
    bands: Iterator[Array], rows: int, texts_at: Callable[[Array], list[str]], similarity: float
) -> tuple[Array, Array]:
    """(pairs, cluster): near-duplicates, int64, shape (pairs, 2), and a cluster number per row, shape (rows,).

    bands: one array of uint32 keys a band, each of shape (rows,). texts_at: the texts at some rows; called by several
    threads at once. Pairs that others already chain are left out, so the pairs stay fewer than the rows.
    """
    cluster = np.arange(rows)
    found = [np.zeros((0, 2), np.int64)]
    unlike = np.zeros(0, np.int64)  # pairs that were compared in vain, as one number each

    def alike(codes: Array) -> Array:
        some, place = np.unique(np.stack(np.divmod(codes, rows), axis=1), return_inverse=True)
        return overlap(texts_at(some), place.reshape(-1, 2)) >= similarity

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:  # numpy works outside of the interpreter's lock
        for pairs in (some for keys in bands for some in _candidates(keys)):
            # What is chained already needs no comparison: a thousand copies cost a thousand comparisons, not a million.
            codes = _distinct(pairs[cluster[pairs[:, 0]] != cluster[pairs[:, 1]]] @ np.array([rows, 1]))
            codes = codes[~_in_sorted(codes, unlike)]
            if not len(codes):
                continue
            chunks = [codes[start : start + CHUNK] for start in range(0, len(codes), CHUNK)]
            near = np.concatenate(list(threads.map(alike, chunks)))
            unlike = np.sort(np.concatenate([unlike, codes[~near]]), kind="stable")  # two sorted runs: merged
            found.append(np.stack(np.divmod(codes[near], rows), axis=1))
            cluster = _merge(cluster, found[-1])
    return np.concatenate(found), cluster


def _candidates(keys: Array) -> Iterator[Array]:
    """Pairs of rows with one key, int64, shape (pairs, 2): each row with the first, then with those just before it."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    rows = np.arange(len(keys))
    begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(keys)]
    start = np.maximum.accumulate(np.where(begins, rows, 0)) if len(keys) else rows
    later = np.flatnonzero(rows > start)
    yield np.stack([order[start[later]], order[later]], axis=1)
    for back in range(1, BACK):
        later = np.flatnonzero(rows - start > back)
        yield np.stack([order[later - back], order[later]], axis=1)


def _merge(cluster: Array, pairs: Array) -> Array:
    """Cluster numbers after joining `pairs`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return cluster
    a, b = cluster[pairs[:, 0]], cluster[pairs[:, 1]]
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(len(cluster), len(cluster)))
    _, joined = connected_components(graph, directed=False)
    return np.asarray(joined)[cluster]


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
    keys = _distinct((text << np.uint64(SHIFT)) | (pieces >> np.uint64(64 - SHIFT)))
    start = np.searchsorted(keys, np.arange(len(texts) + 1, dtype=np.uint64) << np.uint64(SHIFT))
    return keys & np.uint64((1 << SHIFT) - 1), start


def _distinct(values: Array) -> Array:
    """Sorted, each once. numpy's `unique` hashes integers by their low bits, which are alike here: 20 times slower."""
    ordered = np.sort(values)
    return np.asarray(ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]])


def _in_sorted(values: Array, ordered: Array) -> Array:
    if not len(ordered):
        return np.zeros(len(values), bool)
    return np.asarray(ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values)
