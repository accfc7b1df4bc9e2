"""Parts that follow time: each fold newer than the one before, the sealed part newest.

Shapes: n rows, u units, m moments (different times), B bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raysft.folds.quota import Bins

Array = np.ndarray[Any, Any]


def blocks(time: Array, units: Array, bins: Bins) -> Array:
    """A fold per row by time: int64 (n,).

    A unit goes where its newest row goes. Guaranteed: a unit's newest row is older than the newest row of every unit in
    a later bin; so a model never trains on a row whose unit ends after a unit that it is validated or tested on.
    Units whose newest rows have the same time stay together, so that no boundary runs through a day where times are
    days. Each boundary is the moment nearest to what the shares ask; no bin is empty while there are as many moments
    as bins.

    time: float (n,), finite. units: int (n,), 0 to u - 1.
    """
    if not np.isfinite(time).all():
        raise ValueError("every row needs a time")
    newest = np.full(units.max() + 1, -np.inf)
    np.maximum.at(newest, units, time)
    moments, moment = np.unique(newest[units], return_inverse=True)
    # The sealed bin stands first among bins, and last in time.
    rising = np.argsort(np.where(bins.fold < 0, np.iinfo(np.int64).max, bins.fold))
    rows = np.cumsum(np.bincount(moment, minlength=len(moments)))
    cuts = _cuts(rows, np.cumsum(bins.share[rising])[:-1] * len(time))
    return np.asarray(bins.fold[rising[np.searchsorted(cuts, moment, side="right")]])


def _cuts(rows: Array, wanted: Array) -> Array:
    """Before which moment each boundary runs: int (B - 1,), rising, from the rows up to each moment (m,)."""
    upto = np.concatenate([[0], rows])
    after = np.searchsorted(upto, wanted).clip(1, len(upto) - 1)
    nearest = after - (wanted - upto[after - 1] < upto[after] - wanted)
    cuts = []
    least = 1
    for index, cut in enumerate(nearest.tolist()):
        most = len(rows) - (len(wanted) - index)  # leaves a moment to each later bin
        least = max(least, min(cut, max(most, least)))
        cuts.append(least)
        least += 1
    return np.array(cuts, dtype=np.int64)
