"""Which rows of a near-duplicate cluster really resemble each other.

A cluster is a chain: each text is almost the same as the next, and the last may have nothing in common with the first.
That is right for folds, where the whole chain stays together, and wrong for saying that one row is like another. Here
every row is compared with the rows that it is said to be like. All arrays have one entry a row, as in
raysft.audit.repeats; `pairs` are rows known to be alike, int64, shape (pairs, 2), which stand for all rows of their
texts; `texts_at` gives the texts at some rows.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysft.audit.pieces import Texts, resembling
from raysft.audit.repeats import TEST, TRAIN, changes, first_places, run_starts

MOST = 50  # rows of its cluster that a row is compared with; all with all would be quadratic
CHUNK = 2_000  # pairs compared at once, fewer of long texts; ten times as many take a third longer, out of the cache

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Clusters:
    """Near-duplicates, and how to make sure of two of them."""

    cluster: Array  # (rows,) int64
    pairs: Array  # (pairs, 2) int64
    text: Array  # (rows,) keys under which two texts count as the same
    texts_at: Texts
    similarity: float
    sizes: Array  # (rows,) characters of each text

    def alike(self, rows: Array, others: Array) -> Array:
        """Whether the text of each row is almost that of the other, bool, shape (rows,)."""
        return resembling(np.stack([rows, others], axis=1), self.sizes, self.texts_at, self.similarity, CHUNK)


def near_leaks(known: Clusters, origin: Array, alive: Array) -> tuple[Array, Array]:
    """Training rows that are almost the same as a row of the test file, or else of the validation file; with that row.

    Each is compared with MOST held-out texts of its cluster, chosen by content; beyond these, only known pairs count.
    """
    cluster, text = known.cluster, known.text
    rows, held = np.flatnonzero(alive & (origin == TRAIN)), np.flatnonzero(alive & (origin != TRAIN))
    held = held[np.lexsort((held, text[held], origin[held] != TEST, cluster[held]))]
    held = held[changes(cluster[held]) | changes(origin[held]) | changes(text[held])]
    start, end = (np.searchsorted(cluster[held], cluster[rows], side) for side in ("left", "right"))
    rows, start, end = rows[start < end], start[start < end], end[start < end]
    other = np.full(len(rows), -1)
    for turn in range(MOST):
        at = np.flatnonzero((other < 0) & (start + turn < end))
        if not len(at):
            break
        partner = held[start[at] + turn]
        other[at] = np.where(known.alike(rows[at], partner), partner, -1)
    at = np.flatnonzero((other < 0) & (start + MOST < end))
    other[at] = _paired(known, rows[at], held)
    return rows[other >= 0], other[other >= 0]


def _paired(known: Clusters, rows: Array, held: Array) -> Array:
    """The held-out row whose text is in a known pair with that of each row; -1 where there is none."""
    mine, theirs = np.concatenate([known.pairs, known.pairs[:, ::-1]]).T
    partner = first_places(known.text[theirs], known.text[held])
    mine, partner = mine[partner >= 0], partner[partner >= 0]
    place = first_places(known.text[rows], known.text[mine])
    found = np.full(len(rows), -1)
    found[place >= 0] = held[partner[place[place >= 0]]]
    return found


def near_duplicates(known: Clusters, origin: Array, alive: Array) -> tuple[Array, Array]:
    """Training rows that are almost the same as an earlier one that is not itself found; with the first such row.

    Each is compared with the first MOST rows of its cluster that are not found; beyond these, only known pairs count.
    """
    rows = np.flatnonzero(alive & (origin == TRAIN))
    left = rows[np.lexsort((rows, known.cluster[rows]))]
    other = np.full(len(origin), -1)
    for _ in range(MOST):
        # The first row that is left of each cluster is like none before it: it stays, and the others are compared.
        begins = changes(known.cluster[left])
        first = left[run_starts(begins)]
        left, first = left[~begins], first[~begins]
        if not len(left):
            break
        alike = known.alike(left, first)
        other[left[alike]] = first[alike]
        left = left[~alike]
    _chain(known, np.sort(left), other)
    found = np.flatnonzero(other >= 0)
    return found, other[found]


def _chain(known: Clusters, left: Array, other: Array) -> None:
    """Enter into `other` those of the rows, in their order, that a known pair links to an earlier one that stays."""
    ends = known.text[known.pairs]
    linked: dict[int, list[int]] = defaultdict(list)
    for one, two in ends[np.isin(ends, known.text[left]).all(axis=1)].tolist():
        linked[one].append(two)
        linked[two].append(one)
    stays: dict[int, int] = {}  # text -> its first row
    for row, text in zip(left.tolist(), known.text[left].tolist(), strict=True):
        earlier = next((stays[each] for each in (text, *linked[text]) if each in stays), -1)
        other[row] = earlier
        if earlier < 0:
            stays[text] = row
