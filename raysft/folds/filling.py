"""No bin stays empty while some unit can be spared: for corpora of few rows, or of few and large units.

Shapes: n rows, u units, B bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raysft.folds.quota import Bins
from raysft.folds.strata import Strata
from raysft.folds.units import distance, smallest

Array = np.ndarray[Any, Any]


def fill(chosen: Array, strata: Strata, unit: Array, keys: Array, bins: Bins) -> None:
    """Move a unit into each empty bin; in place. chosen, unit: int (n,), 0 to B - 1 and 0 to u - 1.

    First the bins that do not train, then those that do, of which each may have given its only unit. A unit can be
    spared where each of its labels keeps a row that trains. Of these the smallest moves, out of the fullest bin.
    """
    if np.bincount(chosen, minlength=len(bins.share)).all():
        return
    size = np.bincount(unit)
    if len(size) < len(bins.share):
        return
    key = smallest(keys, unit, len(size))
    for index in np.argsort(bins.trains, kind="stable").tolist():
        if (chosen == index).any():
            continue
        spared = np.flatnonzero(_can_be_spared(chosen, strata, unit, bins, index))
        if len(spared):
            bin_of = _bin_of(chosen, unit)[spared]
            fullness = np.bincount(chosen, minlength=len(bins.share)) - bins.share * len(chosen)
            away = distance(key[spared], int(bins.fold[index]), 1.0)
            best = np.lexsort((away, -fullness[bin_of].round(9), size[spared]))[0]
            chosen[unit == spared[best]] = index


def _bin_of(chosen: Array, unit: Array) -> Array:
    """The bin of each unit: int (u,)."""
    found = np.zeros(unit.max() + 1, dtype=np.int64)
    found[unit] = chosen
    return found


def _can_be_spared(chosen: Array, strata: Strata, unit: Array, bins: Bins, taker: int) -> Array:
    """bool (u,): units that may move into the bin `taker`."""
    bin_of = _bin_of(chosen, unit)
    trains = bins.trains[bin_of]
    alone = np.bincount(bin_of, minlength=len(bins.share))[bin_of] == 1
    if bins.trains[taker]:
        return np.asarray(~alone)
    row, label = strata.occurrences()
    learnt = label < strata.count
    row, label = row[learnt], label[learnt]
    training = bins.trains[chosen[row]]
    owner = unit[row] * (strata.count + 1) + label
    entry, rows = np.unique(owner[training], return_counts=True)
    left = np.bincount(label[training], minlength=strata.count + 1)[entry % (strata.count + 1)] - rows
    last = np.zeros(len(bin_of), dtype=bool)
    last[entry[left == 0] // (strata.count + 1)] = True
    return np.asarray(np.where(trains, ~last, ~alone))
