"""Rows that say the same: repeated texts, contradicting labels, training texts that also stand in held-out files.

All functions work on arrays, one entry a row: `text` a 64-bit key under which two texts count as the same, `label` a
key, `origin` TRAIN, VALIDATION or TEST. They return (row, other): the rows found, and for each the row that shows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from raysft.corpus.rows import same_text

TRAIN, VALIDATION, TEST = 0, 1, 2

Array = np.ndarray[Any, Any]


def text_keys(texts: Iterable[str]) -> Array:
    """A key of each text, case and spacing aside: uint64, 8 bytes of BLAKE2b.

    Two different texts share a key with probability 2^-64: 3e-8 for any two in a million rows.
    """
    digests = [hashlib.blake2b(same_text(text).encode("utf-8", "replace"), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), "<u8")


def duplicates(text: Array, label: Array, origin: Array, alive: Array) -> tuple[Array, Array]:
    """Training rows that repeat an earlier one, text and label; with the first of them."""
    rows = np.flatnonzero(alive & (origin == TRAIN))
    order = rows[np.lexsort((rows, label[rows], text[rows]))]
    begins = _changes(text[order]) | _changes(label[order])
    first = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
    return _by_row(order[~begins], first[~begins])


def conflicts(text: Array, label: Array, origin: Array, alive: Array) -> tuple[Array, Array]:
    """Training rows whose text carries different labels; with the first row that has another label."""
    rows = np.flatnonzero(alive & (origin == TRAIN))
    order = rows[np.lexsort((rows, text[rows]))]
    begins = _changes(text[order])
    start = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    unlike_first = label[order] != label[order[start]]
    group = np.cumsum(begins) - 1
    # The first row of each group that differs from the group's very first one; len(order) where there is none.
    other = np.full(group[-1] + 1 if len(group) else 0, len(order))
    np.minimum.at(other, group[unlike_first], np.flatnonzero(unlike_first))
    mixed = other[group] < len(order)
    shown = np.where(unlike_first, order[start], order[np.minimum(other[group], max(0, len(order) - 1))])
    return _by_row(order[mixed], shown[mixed])


def leaks(text: Array, origin: Array, alive: Array) -> tuple[Array, Array]:
    """Rows of training that also stand in the validation or test file, and of validation in test; with the place."""
    found, shown = [], []
    for mine, held in ((TRAIN, (TEST, VALIDATION)), (VALIDATION, (TEST,))):
        rows = np.flatnonzero(alive & (origin == mine))
        for part in held:
            # Whatever became of the held-out row itself, its text stands in that file.
            others = np.flatnonzero(alive & (origin == part))
            keys, first = np.unique(text[others], return_index=True)
            at = np.minimum(np.searchsorted(keys, text[rows]), max(0, len(keys) - 1))
            hit = keys[at] == text[rows] if len(keys) else np.zeros(len(rows), bool)
            found.append(rows[hit])
            shown.append(others[first[at[hit]]])
            rows = rows[~hit]
    return _by_row(np.concatenate(found), np.concatenate(shown))


def later_of_cluster(cluster: Array, origin: Array, alive: Array) -> tuple[Array, Array]:
    """Training rows of a near-duplicate cluster but its first training row; with that one."""
    return duplicates(cluster, np.zeros(len(cluster), np.int8), origin, alive)


def near_leaks(cluster: Array, origin: Array, alive: Array) -> tuple[Array, Array]:
    """Training rows whose near-duplicate cluster also holds a row of the validation or test file; with that row."""
    rows, others = leaks(cluster, origin, alive)
    training = origin[rows] == TRAIN
    return rows[training], others[training]


def _changes(ordered: Array) -> Array:
    """Where a run of equal values begins."""
    return np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, bool)


def _by_row(rows: Array, others: Array) -> tuple[Array, Array]:
    order = np.argsort(rows, kind="stable")
    return rows[order], others[order]
