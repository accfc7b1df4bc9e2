"""Units of several rows or several labels, placed one after the other: large ones first, then those with rare labels.

Shapes: n rows, u units, L labels, S = L + 2 strata (the labels, "no label", "any row"), B bins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from raysft.folds.quota import Bins
from raysft.folds.units import distance

Array = np.ndarray[Any, Any]
CHUNK = 8192  # units whose distances are computed together
# Share of each quota that is kept for the last units, which are placed for balance and not by preference. Measured on
# corpora of 1000 to 5000 rows, all in groups: with none, label shares are up to 2.7 times as far off as those of
# scikit-learn's StratifiedGroupKFold; with 5%, up to 1.4 times, and 1% more rows move 6% of the old rows, not 4%.
RESERVE = 0.05
SETTLE = 3  # times that these are placed anew


class Loads(NamedTuple):
    """What each unit brings of each stratum: unit i has strata[start[i]:start[i + 1]]."""

    start: Array  # int64 (u + 1,)
    strata: Array  # int64 (entries,); the last of each unit is "any row"
    rows: Array  # int64 (entries,)


def loads_of(unit: Array, row: Array, label: Array, strata: int) -> Loads:
    """unit: int (n,), 0 to u - 1. row, label: int (occurrences,), which row has which label; a row has one or more."""
    size = np.bincount(unit)
    of_unit, rows = np.unique(unit[row] * strata + label, return_counts=True)
    every = np.arange(len(size)) * strata + strata - 1
    codes, rows = np.concatenate([of_unit, every]), np.concatenate([rows, size])
    order = np.argsort(codes)
    codes = codes[order]
    start = np.searchsorted(codes, np.arange(len(size) + 1) * strata)
    return Loads(start, codes % strata, rows[order])


def pack(loads: Loads, keys: Array, quota: Array, total: Array, held: Array, bins: Bins) -> Array:
    """The bin of each unit: int64 (u,), 0 to B - 1.

    keys: uint64 (u,). quota: int (S, B), how much each bin should hold of each stratum. total: int (S,), of all rows,
    also those that are no part of these units. held: int (S, B), placed before. A unit goes to the nearest bin that has
    room for all its labels; where there is none, to the one that it brings least out of proportion, and is placed anew
    when the rest stand. The last rows of a label that has no training row yet train.
    """
    packing = _Packing(loads, quota, total, held, bins)
    order = _order(loads, keys, total)
    for at in range(0, len(order), CHUNK):
        some = order[at : at + CHUNK]
        away = np.stack([distance(keys[some], *each) for each in bins.each()], axis=1)
        for index, unit in enumerate(some.tolist()):
            packing.put(unit, away[index])
    packing.settle(keys, bins)
    return packing.chosen


def _order(loads: Loads, keys: Array, total: Array) -> Array:
    """Large units first, then those with the rarest label, both by powers of two; equals by key."""
    size = loads.rows[loads.start[1:] - 1]
    rarest = np.minimum.reduceat(total[loads.strata], loads.start[:-1])
    return np.lexsort((keys, np.frexp(rarest)[1], -np.frexp(size)[1]))


class _Packing:
    """Where each unit went, and what is still to be filled."""

    def __init__(self, loads: Loads, quota: Array, total: Array, held: Array, bins: Bins) -> None:
        self.loads, self.share, self.trains = loads, bins.share, bins.trains
        self.anywhere = np.ones(len(bins.share), dtype=bool)
        self.chosen = np.zeros(len(loads.start) - 1, dtype=np.int64)
        self.homeless: list[int] = []  # units that found no bin with room
        self.room = quota - held  # (S, B)
        self.reserve = np.rint(RESERVE * quota).astype(np.int64)  # (S, B)
        self.left = total - held.sum(axis=1)  # (S,), rows not yet placed
        self.training = held[:, bins.trains].sum(axis=1)  # (S,), rows in bins that train
        self.training[-2:] = 1  # "no label" and "any row" need none
        self.weight = 1.0 / np.maximum(total, 1)  # (S,)

    def put(self, unit: int, away: Array) -> None:
        """Place a unit; `away`: float (B,), how far it is from each bin."""
        strata, rows = self._load(unit)
        allowed = self.trains if self._is_last_to_train(strata, rows) else self.anywhere
        fits = (self.room[strata] >= rows[:, None] + self.reserve[strata]).all(axis=0) & allowed
        if fits.any():
            self._move(unit, int(np.where(fits, away, np.inf).argmin()), 1)
        else:
            self.homeless.append(unit)
            self._move(unit, self._least_harm(strata, rows, away, allowed), 1)

    def settle(self, keys: Array, bins: Bins) -> None:
        """Place the units that found no room anew, now that all others stand; the last first."""
        away = np.stack([distance(keys[self.homeless], *each) for each in bins.each()], axis=1)
        for _ in range(SETTLE):
            before = self.chosen.copy()
            for index in range(len(self.homeless) - 1, -1, -1):
                unit = self.homeless[index]
                strata, rows = self._load(unit)
                self._move(unit, int(self.chosen[unit]), -1)
                allowed = self.trains if self._is_last_to_train(strata, rows) else self.anywhere
                self._move(unit, self._least_harm(strata, rows, away[index], allowed), 1)
            if np.array_equal(before, self.chosen):
                return

    def _load(self, unit: int) -> tuple[Array, Array]:
        mine = slice(self.loads.start[unit], self.loads.start[unit + 1])
        return self.loads.strata[mine], self.loads.rows[mine]

    def _is_last_to_train(self, strata: Array, rows: Array) -> bool:
        """Whether some label of this unit has no training row, and no other rows that could still become one."""
        idle = self.training[strata] == 0
        return bool(idle.any() and (idle & (self.left[strata] == rows)).any())

    def _least_harm(self, strata: Array, rows: Array, away: Array, allowed: Array) -> int:
        """The bin whose squared error, relative to what it should hold (chi-square), the unit changes for the best."""
        harm = self.weight[strata] @ (rows[:, None] * (rows[:, None] - 2 * self.room[strata])) / self.share
        # Rounded, so that equals are equal: then the nearest.
        return int(np.lexsort((away, np.where(allowed, np.round(harm, 9), np.inf)))[0])

    def _move(self, unit: int, to: int, sign: int) -> None:
        """Into a bin (sign 1), or out of it (-1)."""
        strata, rows = self._load(unit)
        self.chosen[unit] = to
        self.room[strata, to] -= sign * rows
        self.left[strata] -= sign * rows
        if self.trains[to]:
            self.training[strata] += sign * rows
