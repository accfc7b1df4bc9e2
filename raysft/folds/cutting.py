"""One part cut from units of several rows, so that a row that comes later changes a unit or two at most.

Shapes: m units, S strata (labels, "no label", "any row"), entries as in Loads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from raysft.folds.units import smallest

Array = np.ndarray[Any, Any]
SIZE = 0.08  # a part may be off by this share of its rows, before units change sides for it


class Loads(NamedTuple):
    """What each unit brings of each stratum: unit i has strata[start[i]:start[i + 1]]."""

    start: Array  # int64 (m + 1,)
    strata: Array  # int64 (entries,); the last of each unit is "any row"
    rows: Array  # int64 (entries,)
    main: Array  # int64 (m,), the label that most rows of the unit have
    width: int  # S

    def take(self, units: Array) -> Loads:
        """The loads of these units, in this order."""
        length = np.diff(self.start)[units]
        start = np.concatenate([[0], np.cumsum(length)])
        where = np.repeat(self.start[:-1][units] - start[:-1], length) + np.arange(start[-1])
        return Loads(start, self.strata[where], self.rows[where], self.main[units], self.width)

    @property
    def size(self) -> Array:
        """Rows of each unit: int64 (m,)."""
        return np.asarray(self.rows[self.start[1:] - 1])

    def owner(self) -> Array:
        """The unit of each entry: int64 (entries,)."""
        return np.repeat(np.arange(len(self.main)), np.diff(self.start))

    def sum(self, units: Array) -> Array:
        """Rows of each stratum in the units that are True: float64 (S,)."""
        return np.bincount(self.strata, self.rows * units[self.owner()], self.width)


def loads_of(unit: Array, row: Array, label: Array, keys: Array, known: Array) -> Loads:
    """unit: int (n,), 0 to m - 1. row, label: int (occurrences,), which row has which label; a row has one or more.

    keys: uint64 (n,), of the rows. known: uint64 (L + 1,), of the labels; they settle which of two labels is the main.
    """
    strata = len(known) + 1
    size = np.bincount(unit)
    code, entry, rows = np.unique(unit[row] * strata + label, return_inverse=True, return_counts=True)
    owner, of = code // strata, code % strata
    order = np.lexsort((known[of], smallest(keys[row], entry, len(code)), -rows, owner))
    main = of[order][np.searchsorted(owner[order], np.arange(len(size)))]
    codes = np.concatenate([code, np.arange(len(size)) * strata + strata - 1])
    order = np.argsort(codes)
    codes, rows = codes[order], np.concatenate([rows, size])[order]
    start = np.searchsorted(codes, np.arange(len(size) + 1) * strata)
    return Loads(start, codes % strata, rows, main, strata)


def cut(loads: Loads, chance: Array, share: float, wanted: Array, held: Array, later: Array) -> Array:
    """Which units the part gets: bool (m,).

    A unit is in where its chance is below the share. Only where a label is then further off than its tolerance, units
    with that main label change sides, those first whose chance is nearest to the share; at last units of any label, for
    the size of the part. Every label looks at what chance alone gave, never at what other labels have changed since:
    otherwise one more row of one label would change units of all.

    chance: float (m,), uniform between 0 and 1, from the unit's content alone; inf for a unit that must not be in.
    wanted: float (S,), what the part should hold in the end. held: (S,), what it holds. later: (S,), rows that are
    placed after these units, and can fill what is missing.
    """
    inside = chance < share
    near = np.argsort(np.abs(chance - share), kind="stable")
    tolerance = _tolerance(loads, share, wanted)
    mine = loads.rows[loads.strata == loads.main[loads.owner()]]
    error = _error(held + loads.sum(inside) - wanted, later)
    wrong = near[(np.abs(error) > tolerance)[loads.main[near]]]
    wrong = wrong[np.argsort(loads.main[wrong], kind="stable")]
    change = np.zeros_like(inside)
    for label in np.unique(loads.main[wrong]).tolist():
        some = wrong[slice(*np.searchsorted(loads.main[wrong], [label, label + 1]))]
        some = some[(inside[some] == (error[label] > 0)) & np.isfinite(chance[some])]
        change[some] = _enough(abs(float(error[label])), float(tolerance[label]), mine[some])
    inside ^= change
    excess = float(_error(held + loads.sum(inside) - wanted, later)[-1])
    some = near[(inside[near] == (excess > 0)) & np.isfinite(chance[near])]
    inside[some] ^= _enough(abs(excess), float(tolerance[-1]), loads.size[some])
    return inside


def _tolerance(loads: Loads, share: float, wanted: Array) -> Array:
    """How far off each stratum may be: float (S,).

    A label: what chance brings about in two of three draws, or what a unit has of it. "Any row": a twelfth of the part,
    or half a unit. Narrower tolerances are met too, but then nearly every new row moves units.
    """
    total = np.bincount(loads.strata, loads.rows, loads.width)
    squares = np.bincount(loads.strata, loads.rows.astype(float) ** 2, loads.width)
    typical = squares / np.maximum(total, 1)  # rows of the unit of a row
    tolerance = np.maximum(np.sqrt(squares * share * (1 - share)), typical)
    tolerance[-1] = max(SIZE * wanted[-1], typical[-1] / 2)
    return np.asarray(tolerance)


def _error(excess: Array, later: Array) -> Array:
    """Rows too many (positive) or too few, beyond what rows that come later can fill."""
    return np.where(excess > 0, excess, np.minimum(excess + later, 0))


def _enough(error: float, tolerance: float, rows: Array) -> Array:
    """Which of these units, in this order, to move until the error is within the tolerance: bool (units,)."""
    moved = np.zeros(len(rows), dtype=bool)
    for index, size in enumerate(rows.tolist()):
        if error <= tolerance:
            break
        if size < 2 * error:  # else it would be as far off on the other side
            moved[index] = True
            error -= size
    return moved
