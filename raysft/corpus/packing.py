"""Units of several rows or several labels, placed one after the other: large ones first, then those with rare labels.

Shapes: n rows, u units, L labels, S = L + 2 strata (the labels, "no label", "any row"), B bins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from raysft.corpus.quota import Bins
from raysft.corpus.units import distance

Array = np.ndarray[Any, Any]
import os
RESERVE = float(os.environ.get('RES', '0'))
CHUNK = 8192  # units whose distances are computed together


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


def pack(loads: Loads, keys: Array, quota: Array, total: Array, bins: Bins) -> Array:
    """The bin of each unit: int64 (u,), 0 to B - 1.

    keys: uint64 (u,). quota: int (S, B), how much each bin should hold of each stratum. total: int (S,), of all rows
    of the corpus. A unit goes to the nearest bin in which it keeps within the quota of all its labels; where there is
    none, to the one that it brings least out of proportion. The last rows of a label that does not train yet train.
    """
    packing = _Packing(quota, total, bins)
    chosen = np.zeros(len(keys), dtype=np.int64)
    order = _order(loads, keys, total)
    fell = set()
    for at in range(0, len(order), CHUNK):
        some = order[at : at + CHUNK]
        away = np.stack([distance(keys[some], *bin_) for bin_ in bins.each()], axis=1)
        for index, unit in enumerate(some.tolist()):
            mine = slice(loads.start[unit], loads.start[unit + 1])
            packing.fell = False
            chosen[unit] = packing.put(loads.strata[mine], loads.rows[mine], away[index])
            if packing.fell: fell.add(unit)
    if os.environ.get('SHOW'): print('fell', len(fell)/len(chosen))
    for _ in range(int(os.environ.get('PASS','0'))):
        moved=0
        for unit in [u for u in order[::-1].tolist() if u in fell]:
            mine = slice(loads.start[unit], loads.start[unit + 1])
            st, ro, a = loads.strata[mine], loads.rows[mine], chosen[unit]
            packing.room[st, a] += ro
            worse = packing.weight[st] @ (ro[:, None] * (ro[:, None] - 2 * packing.room[st])) / bins.share
            b = worse.argmin()
            if worse[b] < worse[a] - float(os.environ.get('EPS','1e-9'))*(packing.weight[st] @ ro**2): moved+=1
            else: b = a
            packing.room[st, b] -= ro
            chosen[unit] = b
        if not moved: break
    return chosen


def _order(loads: Loads, keys: Array, total: Array) -> Array:
    """Large units first, then those with the rarest label, both by powers of two; equals by key."""
    size = loads.rows[loads.start[1:] - 1]
    rarest = np.minimum.reduceat(total[loads.strata], loads.start[:-1])
    return np.lexsort((keys, np.frexp(rarest)[1], -np.frexp(size)[1]))


class _Packing:
    """What is still to be filled."""

    def __init__(self, quota: Array, total: Array, bins: Bins) -> None:
        self.room = quota.copy()  # (S, B)
        self.left = total.copy()  # (S,), rows not yet placed
        self.idle = np.ones(len(total), dtype=bool)  # (S,): the label has no training row yet
        self.idle[-2:] = False  # "no label" and "any row" need none
        self.weight = 1.0 / np.maximum(total, 1)  # (S,)
        self.share, self.trains = bins.share, bins.trains
        self.keep = np.floor(RESERVE * quota + float(os.environ.get("OFF","0")))

    def put(self, strata: Array, rows: Array, away: Array) -> int:
        """The bin for a unit with these rows of these strata; `away` (B,) is how far it is from each."""
        room = self.room[strata]
        fits = (room >= rows[:, None] + self.keep[strata]).all(axis=0)
        idle = self.idle[strata]
        last = idle.any() and (idle & (self.left[strata] == rows)).any()
        if last:
            fits &= self.trains
        if fits.any():
            best = int(np.where(fits, away, np.inf).argmin())
        else:
            self.fell = True
            # Change of squared error, relative to what the bin should hold (chi-square).
            worse = self.weight[strata] @ (rows[:, None] * (rows[:, None] - 2 * room)) / self.share
            if last:
                worse[~self.trains] = np.inf
            best = int(np.lexsort((away, np.round(worse, 9)))[0])
        self.room[strata, best] -= rows
        self.left[strata] -= rows
        if self.trains[best]:
            self.idle[strata] = False
        return best
