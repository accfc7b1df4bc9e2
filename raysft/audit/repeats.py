"""Rows that say the same: repeated texts, contradicting labels, texts that stand in more than one file.

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


def duplicates(text: Array, label: Array, origin: Array, alive: Array, part: int = TRAIN) -> tuple[Array, Array]:
    """Rows of one part that repeat an earlier one, text and label; with the first of them."""
    rows = np.flatnonzero(alive & (origin == part))
    order = rows[np.lexsort((rows, label[rows], text[rows]))]
    begins = changes(text[order]) | changes(label[order])
    first = order[run_starts(begins)]
    return by_row(order[~begins], first[~begins])


def conflicts(text: Array, label: Array, origin: Array, alive: Array, part: int = TRAIN) -> tuple[Array, Array]:
    """Rows of one part whose text carries different labels there; with the first row that has another label."""
    rows = np.flatnonzero(alive & (origin == part))
    order = rows[np.lexsort((rows, text[rows]))]
    begins = changes(text[order])
    start = run_starts(begins)
    unlike_first = label[order] != label[order[start]]
    group = np.cumsum(begins) - 1
    # The first row of each group that differs from the group's very first one; len(order) where there is none.
    other = np.full(group[-1] + 1 if len(group) else 0, len(order))
    np.minimum.at(other, group[unlike_first], np.flatnonzero(unlike_first))
    mixed = other[group] < len(order)
    shown = np.where(unlike_first, order[start], order[np.minimum(other[group], max(0, len(order) - 1))])
    return by_row(order[mixed], shown[mixed])


def held_out_duplicates(text: Array, label: Array, origin: Array, alive: Array) -> tuple[Array, Array]:
    """The same as `duplicates`, within the validation file and within the test file."""
    return _joined(*(duplicates(text, label, origin, alive, part) for part in (VALIDATION, TEST)))


def held_out_conflicts(text: Array, label: Array, origin: Array, alive: Array) -> tuple[Array, Array]:
    """The same as `conflicts`, within the validation file and within the test file."""
    return _joined(*(conflicts(text, label, origin, alive, part) for part in (VALIDATION, TEST)))


def leaks(text: Array, origin: Array, alive: Array) -> tuple[Array, Array]:
    """Training rows that also stand in the test file, or else in the validation file; with the place."""
    in_test = _also_in(text, origin, alive, TRAIN, TEST)
    in_validation = _also_in(text, origin, alive, TRAIN, VALIDATION)
    only = ~np.isin(in_validation[0], in_test[0])
    return _joined(in_test, (in_validation[0][only], in_validation[1][only]))


def validation_in_test(text: Array, origin: Array, alive: Array) -> tuple[Array, Array]:
    """Rows of the validation file that also stand in the test file; with the place."""
    return _also_in(text, origin, alive, VALIDATION, TEST)


def _also_in(text: Array, origin: Array, alive: Array, mine: int, part: int) -> tuple[Array, Array]:
    rows, others = np.flatnonzero(alive & (origin == mine)), np.flatnonzero(alive & (origin == part))
    place = first_places(text[rows], text[others])
    return rows[place >= 0], others[place[place >= 0]]


def first_places(wanted: Array, keys: Array) -> Array:
    """Where each wanted key first stands among `keys`, int64, -1 where it does not. wanted: (w,), keys: (k,)."""
    if not len(keys):
        return np.full(len(wanted), -1)
    known, first = np.unique(keys, return_index=True)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, first[at], -1)


def changes(ordered: Array) -> Array:
    """Where a run of equal values begins, bool."""
    return np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, bool)


def run_starts(begins: Array) -> Array:
    """For each entry, where its run begins. begins: what `changes` gives."""
    return np.asarray(np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0)))


def by_row(rows: Array, others: Array) -> tuple[Array, Array]:
    """Both in the order of the rows."""
    order = np.argsort(rows, kind="stable")
    return rows[order], others[order]


def _joined(*found: tuple[Array, Array]) -> tuple[Array, Array]:
    return by_row(np.concatenate([rows for rows, _ in found]), np.concatenate([others for _, others in found]))
