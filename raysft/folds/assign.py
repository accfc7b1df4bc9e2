"""Which rows train, validate and test: stratified by label, never splitting a unit, stable when rows are added.

Every row that stands alone prefers bins in an order that follows from its content alone, and gets its first choice
unless that bin has its share of the row's label already. Units of several rows are drawn each by its own chance, the
test part first, and change sides only where a part is further off than a tolerance. So rows that come later move few of
the old ones, and the order of rows and files means nothing.

Shapes: n rows, u units, L labels, B bins (the sealed part, where there is one, and the folds).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raysft.folds.placing import place
from raysft.folds.quota import Bins
from raysft.folds.strata import Strata
from raysft.folds.timeline import blocks

Array = np.ndarray[Any, Any]
SEALED = -1  # the test part
GIVEN = -2  # the person's own validation file
FREE = -3  # in `given`: not fixed, to be assigned


def assign(
    strata: Strata,
    units: Array,
    keys: Array,
    k: int,
    test: float,
    given: Array | None = None,
    time: Array | None = None,
) -> Array:
    """SEALED, GIVEN or a fold number 0 .. max(k, 1) - 1 per row: int64 (n,).

    `test` of the free rows is sealed, the rest falls into max(k, 1) equal folds; whole units only. Pass test=0 where
    the person brought a test file, k=0 where they brought a validation file.

    units: int (n,), see units_of. keys: uint64 (n,), a hash of what a row says and of the seed, never of its place;
    rows of different units with the same key may change places. given: int (n,), SEALED or GIVEN for rows that keep
    the part they came with, FREE for the others; None: all are free. A unit that has both is split, and `proof` says
    so. time: float (n,), finite for free rows; then the parts follow time and not the labels, see blocks.

    Of rows that stand alone with one label or none each bin gets its share, rounded up or down. Where most units are of
    several rows, parts and labels are near their shares only, so that rows that come later move few (see packing). A
    unit that is larger than the test part, or than the fold that validates, trains. Every label has a row that trains
    (neither sealed nor in fold 0) before it has any other. No part is empty where a unit can be spared for it. A
    million rows take about 2 s, in units or alone.
    """
    fold = np.full(len(units), FREE) if given is None else np.array(given, dtype=np.int64)
    free = np.flatnonzero(fold == FREE)
    if len(free) == 0:
        return fold
    bins = bins_of(k, test)
    _, unit = np.unique(units[free], return_inverse=True)
    if time is None:
        fold[free] = bins.fold[place(strata.take(free), unit, keys[free], bins)]
    else:
        fold[free] = blocks(time[free], unit, bins)
    return fold


def bins_of(k: int, test: float) -> Bins:
    """The bins to fill: the sealed part first, where `test` is more than zero."""
    folds = max(k, 1)
    sealed = [test] if test > 0 else []
    share = np.array([*sealed, *[(1 - test) / folds] * folds])
    number = np.array([*[SEALED] * len(sealed), *range(folds)])
    return Bins(number, share, trains=number >= (1 if folds > 1 else 0))


def part_of(fold: int, validation: int | None, k: int, order: str = "random") -> str:
    """train, validation, test, later or left out, from a fold number and the fold that validates; None: all folds
    train, and the person's own validation rows, which may stand in the test part too, are left out.

    later: unused, because under `order` time a fold newer than the validating one must not train.
    """
    if fold == SEALED:
        return "test"
    if validation is None:
        return "left out" if fold == GIVEN else "train"
    if fold == GIVEN or (k > 0 and fold == validation):
        return "validation"
    return "later" if order == "time" and k > 0 and fold > validation else "train"


def validation_fold(asked: int | str | None, k: int, order: str = "random") -> int:
    """The fold that validates: the one asked for; else fold 0, or by time the newest."""
    if isinstance(asked, int):
        return asked
    return max(k - 1, 0) if order == "time" else 0


def validation_problem(asked: int | str | None, k: int, order: str = "random") -> str | None:
    """Why this fold cannot validate, as a sentence for the person; None where it can. k=0: nothing validates."""
    if k == 0 or not isinstance(asked, int):
        return None
    if not 0 <= asked < k:
        return f"folds are 0 to {k - 1}, found {asked}"
    if order == "time" and asked == 0:
        allowed = "1" if k == 2 else f"1 to {k - 1}"
        return (
            "with folds.order: time, fold 0 holds the oldest rows, and a model that is validated on it would have "
            f"nothing older to train on; use {allowed}, or null for the newest ({k - 1})"
        )
    return None
