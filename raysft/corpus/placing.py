"""Units to bins: each its first choice, unless that bin has its share of the unit's labels already.

Units of several rows or labels are placed first, one after the other; then the rows that stand alone fill what is left,
all at once.

Shapes: n rows, u units, L labels and "no label" as one more, B bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raysft.corpus.packing import loads_of, pack
from raysft.corpus.quota import Bins, remaining, whole
from raysft.corpus.strata import Strata
from raysft.corpus.units import distance, smallest

Array = np.ndarray[Any, Any]


def place(strata: Strata, unit: Array, keys: Array, bins: Bins) -> Array:
    """The bin of every row: int64 (n,), 0 to B - 1. unit: int (n,), 0 to u - 1; keys: uint64 (n,)."""
    row, label = strata.occurrences()
    total = np.bincount(label, minlength=strata.count + 1)
    alone = (np.bincount(unit)[unit] == 1) & (np.diff(strata.start) <= 1)
    lone = alone[row]
    chosen = np.zeros(len(unit), dtype=np.int64)
    if not alone.all():
        chosen[~alone] = _place_together(unit[~alone], row[~lone], label[~lone], keys, alone, total, bins)
    held = np.zeros((len(total), len(bins.share)), dtype=np.int64)
    np.add.at(held, (label[~lone], chosen[row[~lone]]), 1)
    size = np.bincount(chosen[~alone], minlength=len(bins.share))
    chosen[row[lone]] = _place_alone(label[lone], keys[row[lone]], total, held, bins.share * len(unit) - size, bins)
    return chosen


def _place_together(
    unit: Array, row: Array, label: Array, keys: Array, alone: Array, total: Array, bins: Bins
) -> Array:
    """The bin of each row of a unit with several rows or labels: int64 (rows,).

    unit: int (rows,). row, label: int (occurrences,), of these rows. total: int (L + 1,), of all rows.
    """
    _, mine = np.unique(unit, return_inverse=True)
    number = np.cumsum(~alone) - 1  # of each row of the corpus, among these rows
    unit_keys = smallest(keys[~alone], mine, int(mine.max()) + 1)
    wanted = bins.share * total[:, None]
    fair = liking(label, unit_keys[mine[number[row]]], wanted, bins)
    trained = np.zeros(len(total), dtype=bool)
    trained[-1] = True
    quota = whole(wanted, wanted.sum(axis=0), fair, bins.trains, trained)
    every = np.ceil(bins.share * len(mine) - 1e-9).astype(np.int64)
    loads = loads_of(mine, number[row], label, len(total) + 1)
    return pack(loads, unit_keys, np.vstack([quota, every]), np.append(total, len(mine)), bins)[mine]


def _place_alone(label: Array, keys: Array, total: Array, held: Array, size: Array, bins: Bins) -> Array:
    """The bin of each row that stands alone: int64 (rows,).

    label: int (rows,). total: int (L + 1,), of all rows. held: int (L + 1, B), placed before. size: float (B,), how
    many rows each bin should still get.
    """
    wanted = remaining(bins.share * total[:, None], held, np.bincount(label, minlength=len(total)))
    trained = held[:, bins.trains].any(axis=1)
    trained[-1] = True  # "no label" is nothing to be learnt
    quota = whole(wanted, size, liking(label, keys, wanted, bins), bins.trains, trained)
    return _seat(label, keys, quota, bins)


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
    """(bin, distance) per key: the nearest bin, of those with room for its label where `room` (L + 1, B) is given."""
    best, least = np.zeros(len(keys), dtype=np.int64), np.full(len(keys), np.inf)
    for index, (fold, share) in enumerate(bins.each()):
        away = distance(keys, fold, share)
        if room is not None:
            away[room[label, index] <= 0] = np.inf
        nearer = away < least
        best[nearer], least[nearer] = index, away[nearer]
    return best, least


def _seat(label: Array, keys: Array, quota: Array, bins: Bins) -> Array:
    """Fill the seats of each label and bin with the rows that are nearest; who finds none asks the next bin."""
    chosen = np.zeros(len(label), dtype=np.int64)
    room = quota.copy()
    waiting = np.arange(len(label))
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
    return chosen
