"""Rows to bins: each its first choice, unless that bin has its share of the row's labels already.

Units of several rows are placed first, as units; then rows of several labels: those that many others are like all at
once, the rest as units are; at last the rows of one label or none fill what is left, all at once.

Shapes: n rows, u units, L labels and "no label" as one more, B bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raysft.folds.cutting import loads_of
from raysft.folds.filling import fill
from raysft.folds.packing import pack
from raysft.folds.quota import Bins, remaining, whole
from raysft.folds.strata import Strata
from raysft.folds.units import distance, smallest

Array = np.ndarray[Any, Any]
NOWHERE = -1
# Where most units are of several rows, rows that stand alone are placed like them: too few to mend what the units left
# uneven, they would only change places with every new row. From a fifth of such units on some are, from half on all;
# in between by each row's own chance, so that a corpus that grows past such a number is not drawn anew.
SOME, ALL = 0.2, 0.5
JOINING = -4  # stands for no bin


def place(strata: Strata, unit: Array, keys: Array, bins: Bins) -> Array:
    """The bin of every row: int64 (n,), 0 to B - 1. unit: int (n,), 0 to u - 1; keys: uint64 (n,)."""
    placing = _Placing(strata, unit, keys, bins)
    size = np.bincount(unit)
    together = size[unit] > 1
    together |= np.exp(-distance(keys, JOINING, 1.0)) < ((size > 1).mean() - SOME) / (ALL - SOME)
    several = ~together & (np.diff(strata.start) > 1)
    placing.as_units(np.flatnonzero(together))
    placing.alike(np.flatnonzero(several))
    placing.as_units(np.flatnonzero(several & (placing.chosen == NOWHERE)))
    placing.all_at_once(np.flatnonzero(placing.chosen == NOWHERE))
    fill(placing.chosen, strata, unit, keys, bins)
    return placing.chosen


class _Placing:
    """Where each row went, and what the bins hold."""

    def __init__(self, strata: Strata, unit: Array, keys: Array, bins: Bins) -> None:
        self.strata, self.unit, self.keys, self.bins = strata, unit, keys, bins
        self.total = np.bincount(strata.occurrences()[1], minlength=strata.count + 1)
        self.chosen = np.full(len(unit), NOWHERE, dtype=np.int64)
        self.held = np.zeros((len(self.total), len(bins.share)), dtype=np.int64)  # (L + 1, B)

    @property
    def wanted(self) -> Array:
        """float64 (L + 1, B): the rows that each bin should hold in the end."""
        return np.asarray(self.bins.share * self.total[:, None])

    def as_units(self, rows: Array) -> None:
        """Place the units of these rows, each by its own chance and corrected only where parts are far off."""
        if len(rows) == 0:
            return
        row, label = self.strata.take(rows).occurrences()
        _, unit = np.unique(self.unit[rows], return_inverse=True)
        every, labels = self.strata.occurrences()
        known = smallest(self.keys[every], labels, len(self.total))
        size = np.bincount(self.chosen[self.chosen != NOWHERE], minlength=len(self.bins.share))
        held, total = np.vstack([self.held, size]), np.append(self.total, len(self.unit))
        here = np.append(np.bincount(label, minlength=len(self.total)), len(rows))
        loads = loads_of(unit, row, label, self.keys[rows], known)
        keys = smallest(self.keys[rows], unit, len(loads.main))
        self._put(rows, pack(loads, keys, total, held, total - held.sum(axis=1) - here, self.bins)[unit])

    def alike(self, rows: Array) -> None:
        """Place of each set of labels, rounded down, what every bin should have; so no label exceeds its share."""
        if len(rows) == 0:
            return
        some = self.strata.take(rows)
        kind, first = _kinds(some)
        left = self.total - self.held.sum(axis=1)
        # Bins that hold much of a label already have room for a part of the rest only.
        room = (self.wanted - self.held) / np.maximum(self.bins.share * left[:, None], 1e-9)
        row, label = some.take(first).occurrences()
        part = np.ones(len(first))
        np.minimum.at(part, row, room.min(axis=1).clip(0, 1)[label])
        quota = np.floor(self.bins.share * (part * np.bincount(kind))[:, None] + 1e-9).astype(np.int64)
        chosen = _seat(kind, self.keys[rows], quota, self.bins)
        seated = chosen != NOWHERE
        self._put(rows[seated], chosen[seated])

    def all_at_once(self, rows: Array) -> None:
        """Place rows that stand alone and have one label or none."""
        row, label = self.strata.take(rows).occurrences()
        rows = rows[row]
        wanted = remaining(self.wanted, self.held, np.bincount(label, minlength=len(self.total)))
        held = np.bincount(self.chosen[self.chosen != NOWHERE], minlength=len(self.bins.share))
        sums = self.bins.share * len(self.unit) - held
        fair = liking(label, self.keys[rows], wanted, self.bins)
        quota = whole(wanted, sums, fair, self.bins.trains, self._needless())
        self._put(rows, _seat(label, self.keys[rows], quota, self.bins))

    def _needless(self) -> Array:
        """bool (L + 1,): labels that have a training row; "no label" needs none, as there is nothing to be learnt."""
        trained = np.asarray(self.held[:, self.bins.trains].any(axis=1))
        trained[-1] = True
        return trained

    def _put(self, rows: Array, chosen: Array) -> None:
        self.chosen[rows] = chosen
        row, label = self.strata.take(rows).occurrences()
        np.add.at(self.held, (label, chosen[row]), 1)


def _kinds(strata: Strata) -> tuple[Array, Array]:
    """(kind of each row, first row of each kind): rows of one kind have the same labels. Every row has some."""
    # A sum of hashes, which the order of the labels does not change.
    mixed = (distance(np.arange(strata.count, dtype=np.uint64), 0, 1.0) * 2.0**52).astype(np.uint64)
    _, first, kind = np.unique(
        np.add.reduceat(mixed[strata.ids], strata.start[:-1]), return_index=True, return_inverse=True
    )
    return kind, first


def liking(label: Array, keys: Array, wanted: Array, bins: Bins) -> Array:
    """Where to round up: in bins that more rows prefer than have a seat there, then by chance; float (L + 1, B).

    Following the rows' own choice lets most of them have it. label: int (rows,); keys: uint64 (rows,).
    """
    labels, count = wanted.shape
    first, _ = _nearest(keys, bins)
    asked = np.bincount(label * count + first, minlength=labels * count).reshape(labels, count)
    down = np.floor(wanted + 1e-9)
    # A label is known by its smallest key, not by its number, which another label in the corpus would shift.
    known = smallest(keys, label, labels)
    chance = np.stack([np.exp(-distance(known, fold, 1.0)) for fold, _ in bins.each()], axis=1)
    return np.asarray((asked > down) + (wanted - down) * chance)


def _nearest(keys: Array, bins: Bins, room: Array | None = None, label: Array | None = None) -> tuple[Array, Array]:
    """(bin, distance) per key: the nearest bin, of those with room for its label where `room` (L, B) is given."""
    best, least = np.zeros(len(keys), dtype=np.int64), np.full(len(keys), np.inf)
    for index, (fold, share) in enumerate(bins.each()):
        away = distance(keys, fold, share)
        if room is not None:
            away[room[label, index] <= 0] = np.inf
        nearer = away < least
        best[nearer], least[nearer] = index, away[nearer]
    return best, least


def _seat(label: Array, keys: Array, quota: Array, bins: Bins) -> Array:
    """The bin of each row, or NOWHERE when all are full: int64 (rows,).

    The seats of a label in a bin go to the rows that are nearest to it; who finds none asks the next bin. label: int
    (rows,); keys: uint64 (rows,); quota: int (labels, B).
    """
    chosen = np.full(len(label), NOWHERE, dtype=np.int64)
    room = quota.copy()
    waiting = np.flatnonzero(room.sum(axis=1)[label] > 0)
    while len(waiting):
        best, away = _nearest(keys[waiting], bins, room, label[waiting])
        seat = label[waiting] * room.shape[1] + best
        order = np.lexsort((away, seat))
        line = seat[order]
        seated = np.zeros(len(order), dtype=bool)
        seated[order] = np.arange(len(line)) - np.searchsorted(line, line) < room.ravel()[line]
        chosen[waiting[seated]] = best[seated]
        room -= np.bincount(seat[seated], minlength=room.size).reshape(room.shape)
        waiting = waiting[~seated]
        waiting = waiting[room.sum(axis=1)[label[waiting]] > 0]
    return chosen
