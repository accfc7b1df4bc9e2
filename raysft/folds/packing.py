"""Units of several rows or several labels to bins: the sealed part is cut first, then one fold after the other.

Exact shares would cost stability: every new row would move units in all parts. Measured over 100 draws with five folds
and a test part of 15% (tests hold it), on corpora whose rows are all in groups:

                                      one row more moves     of them across the     10% more   size of the test part
                                      of the old rows        test part's boundary   rows move  off by, mean (most)
    quickstart: 1487 rows, 624 groups 0.2% (most 1.4%)       0.4 rows (13% of draws)    4.4%   3.3% (7.6%)
    500 rows in 100 groups            0.8% (most 9%)         0.7 rows (14%)             7.5%   4.0% (8%)
    400 rows in 130 groups            0.7% (most 8%)         0.4 rows (10%)             5.3%   3.8% (6.7%)
    10,000 rows in 2500, 77 labels    0.06% (most 0.3%)      0.4 rows (8%)              4.7%   2.5% (5.3%)

The worst part is off by 4 to 8% on average, 15% at most. The shares of labels are 0.77 times as far off as if groups
were drawn by lot.

Shapes: u units, S strata (labels, "no label", "any row"), B bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raysft.folds.cutting import Loads, cut
from raysft.folds.quota import Bins
from raysft.folds.units import distance

Array = np.ndarray[Any, Any]


def pack(loads: Loads, keys: Array, total: Array, held: Array, later: Array, bins: Bins) -> Array:
    """The bin of each unit: int64 (u,), 0 to B - 1.

    keys: uint64 (u,). total: int (S,), all rows, also those that are no part of these units. held: int (S, B), placed
    before. later: int (S,), placed after. The sealed part depends on its own share alone, not on the number of folds;
    each fold is cut from what the bins before it left, and the last gets the rest.
    """
    barred = _barred(loads, keys, total, held, later, bins)
    chosen = np.full(len(keys), len(bins.share) - 1)
    rest = np.arange(len(keys))
    left, later, portion = total.astype(float), later.astype(float), 1.0
    for index, (fold, share) in list(enumerate(bins.each()))[:-1]:
        some = loads.take(rest)
        chance = np.where(barred[rest, index], np.inf, _chance(keys[rest], fold))
        wanted = left * share / portion
        inside = cut(some, chance, share / portion, wanted, held[:, index], later)
        chosen[rest[inside]] = index
        got = held[:, index] + some.sum(inside)
        filled = (wanted - got).clip(0, later)
        left, later, portion = left - got - filled, later - filled, portion - share
        rest = rest[~inside]
    return chosen


def _chance(keys: Array, fold: int) -> Array:
    """A number between 0 and 1 per key and bin, independent of all others: float64, shape of `keys`."""
    return np.exp(-distance(keys, fold, 1.0))


def _barred(loads: Loads, keys: Array, total: Array, held: Array, later: Array, bins: Bins) -> Array:
    """Units that must train: bool (u, B), True in bins that do not.

    A unit that is larger than the bin. And of each label that has no other training row, nor rows that come later, the
    unit that is furthest from being drawn into such bins; so that to bar it changes nothing for labels with many units.
    """
    idle = np.flatnonzero(~bins.trains)
    barred = np.zeros((len(keys), len(bins.share)), dtype=bool)
    if len(idle) == 0:
        return barred
    safety = np.min([_chance(keys, int(bins.fold[index])) for index in idle], axis=0)
    needs = (held[:, bins.trains].sum(axis=1) == 0) & (later == 0)
    needs[-2:] = False  # nothing is learnt from "no label"; "any row" is no label
    entries = np.flatnonzero(needs[loads.strata])
    owner, label = loads.owner()[entries], loads.strata[entries]
    order = np.lexsort((-safety[owner], label))
    _, first = np.unique(label[order], return_index=True)
    barred[np.ix_(owner[order][first], idle)] = True
    barred[:, idle] |= loads.size[:, None] > bins.share[idle] * total[-1]
    return barred
