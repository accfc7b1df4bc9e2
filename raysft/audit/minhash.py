"""MinHash signatures of texts, kept as a few 32-bit band keys and a sketch of 128 bits a row.

Signatures are computed batch by batch where rows are read, by rensa (MinHash in Rust). Leskovec, Rajaraman, Ullman:
Mining of Massive Datasets, 3rd ed., sections 3.3 and 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from raysft.audit.pieces import piece_hashes, spread

PERMUTATIONS = 128
RECALL = 0.995  # wanted at exactly `similarity`
SKETCH_WORDS = 2  # of 64 bits: one bit of each permutation

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


def fingerprints(texts: Sequence[str], similarity: float) -> tuple[Array, Array]:
    """(band keys, sketches) of clean texts: uint32, shape (rows, bands), and uint64, shape (rows, SKETCH_WORDS).

    Texts that share a band key are worth comparing. Two sketches differ in a share of their bits that is half of what
    the texts' similarity lacks to 1 (Li, Koenig: b-bit minwise hashing, WWW 2010, with b = 1).
    """
    bands, rows = band_shape(similarity)
    if not texts:
        return np.zeros((0, bands), np.uint32), np.zeros((0, SKETCH_WORDS), np.uint64)
    used = signatures(texts, bands * rows)
    bits = np.zeros((len(texts), PERMUTATIONS), np.uint8)
    bits[:, : used.shape[1]] = used & 1
    sketches = np.packbits(bits, axis=1).view(np.uint64)
    key = np.zeros((len(texts), bands), np.uint64)
    for place in range(rows):
        key = spread(key ^ used.reshape(len(texts), bands, rows)[:, :, place].astype(np.uint64))
    return (key >> np.uint64(32)).astype(np.uint32), sketches


def signatures(texts: Sequence[str], permutations: int = PERMUTATIONS) -> Array:
    """MinHash signatures, uint32, shape (rows, permutations)."""
    from rensa import RMinHash

    pieces, offsets = piece_hashes(texts)
    rows = RMinHash.digest_matrix_from_flat_token_hashes(pieces, offsets, permutations, 1).to_rows()
    flat = np.fromiter(chain.from_iterable(rows), np.uint32, len(texts) * permutations)
    return flat.reshape(len(texts), permutations)
