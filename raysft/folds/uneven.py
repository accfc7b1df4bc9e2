"""Parts that came out much larger or smaller than asked, and the unit that is to blame.

Shapes: n rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from raysft.folds.assign import bins_of

Array = np.ndarray[Any, Any]
MUCH = 0.25  # a part that is off by more than this share of what was asked is worth a word
FEW = 2  # fewer rows than this are a matter of rounding


@dataclass(frozen=True)
class Uneven:
    """A part that is not of the size that was asked for."""

    fold: int  # SEALED, or the number of the fold
    rows: int
    wanted: float
    largest: int  # rows of its largest unit; 0 for an empty part


def uneven(fold: Array, units: Array, k: int, test: float) -> list[Uneven]:
    """The parts that are off by more than a quarter of their share, the sealed one first, then by number.

    fold: int (n,), the part of each row that was free to be assigned, without rows of the person's own validation or
    test files. units: int (n,), not negative. k, test: as `assign` was asked.
    """
    _, unit = np.unique(units, return_inverse=True)
    size = np.bincount(unit)[unit]
    found = []
    for number, share in bins_of(k, test).each():
        mine, wanted = fold == number, share * len(fold)
        off = abs(int(mine.sum()) - wanted)
        if off > MUCH * wanted and off >= FEW:
            found.append(Uneven(number, int(mine.sum()), wanted, int(size[mine].max(initial=0))))
    return found


def largest_unit(units: Array) -> int:
    """Rows of the largest unit. units: int (n,), one row or more."""
    return int(np.unique(units, return_counts=True)[1].max())
