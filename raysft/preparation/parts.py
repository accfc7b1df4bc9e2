"""What is said of the parts once rows are placed: none may be empty, and one far from its share is named.

Shapes: n rows, those that were free to be placed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raysft.audit.finding import Example, Finding
from raysft.config import Job
from raysft.errors import DataError
from raysft.folds.assign import SEALED, bins_of
from raysft.folds.strata import Strata
from raysft.folds.uneven import MUCH, Uneven, largest_unit, uneven

Array = np.ndarray[Any, Any]


def part_sizes(fold: Array, unit: Array, k: int, test: float, time: Array | None = None) -> Finding:
    """Parts that are more than a quarter off their share, with the unit that causes it.

    fold, unit: int (n,). time: float (n,), where the folds follow time; then rows of one time stay together too.
    """
    if time is not None:
        unit = _moments(unit, time)
    found = uneven(fold, unit, k, test)
    largest = largest_unit(unit)
    kept = "have the same time or must stay together" if time is not None else "must stay together"
    why = (
        f"{largest} rows {kept}, {largest / len(unit):.0%} of all; no part can hold only some of them. "
        "Check data.group, data.time and near-duplicates, or bring test rows of your own (data.test)."
        if found and largest > MUCH * min(each.wanted for each in found)
        else "A label's last row must train, so that other parts get less. Add rows of rare labels, or join labels."
    )
    return Finding(
        name="part_sizes",
        title="Parts of another size than asked",
        found=len(found),
        unit="parts",
        action="report",
        level="warning" if found else "fine",
        explanation=why if found else "Every part is within a quarter of its share.",
        examples=tuple(Example("", detail=_said(each)) for each in found),
    )


def require_parts(
    job: Job, strata: Strata, fold: Array, unit: Array, k: int, test: float, time: Array | None = None
) -> None:
    """Raise DataError where an asked-for fold or the test part got no row. strata, fold, unit, time: of n rows."""
    parts = bins_of(k, test).fold
    missing = np.setdiff1d(parts, fold)
    if len(missing) == 0:
        return
    what = f"the {_named(int(missing.min()))} would be empty: {len(fold)} rows"
    units, group = len(np.unique(unit)), job.config.data.group
    moments = len(np.unique(time)) if time is not None else len(parts)
    if moments < len(parts):
        most = moments - int(test > 0)
        fewer = f"Use folds.k: {most} or less" if most > 1 else "Use folds.order: random"
        raise DataError(
            f"{what} have {moments} different times (data.time: {job.config.data.time}), and rows of one time stay in "
            f"one of the {len(parts)} parts",
            f"{fewer}, times that tell more rows apart (hours, not days), or rows of more times.",
        )
    if time is not None or units < len(parts):
        together = f" (data.group: {group})" if group else " (equal texts and near-duplicates)"
        raise DataError(
            f"{what} fall into {units} units that must stay together{together}",
            f"{len(parts)} parts need many more units; use fewer folds (folds.k), a finer data.group, or more rows.",
        )
    raise DataError(
        f"{what} have {len(np.unique(strata.ids))} labels, and the last row of each label must train, or the label "
        "could not be learnt; no row is left to validate or test",
        "Add a second row to some labels, join rare labels, or bring rows of your own (data.validation, data.test).",
    )


def _moments(unit: Array, time: Array) -> Array:
    """What stays together under folds.order: time, as a number per row: units whose newest rows have the same time."""
    _, unit = np.unique(unit, return_inverse=True)
    newest = np.full(int(unit.max()) + 1, -np.inf)
    np.maximum.at(newest, unit, time)
    return np.unique(newest[unit], return_inverse=True)[1]


def _named(fold: int) -> str:
    return "test part" if fold == SEALED else f"fold {fold}"


def _said(part: Uneven) -> str:
    return f"{_named(part.fold)}: {part.rows} rows, {part.wanted:.0f} asked; its largest unit has {part.largest}"
