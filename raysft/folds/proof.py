"""The proof that nothing leaks: counted from the final parts alone, not from what the assignment believed.

Shapes: n rows, p pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raysft.folds.assign import FREE, SEALED

Array = np.ndarray[Any, Any]
YOURS = "between data.train and your own validation or test file, or between these two; such rows are not moved"


def crossings(keys: Array, parts: Array) -> int:
    """How many keys stand in more than one part. keys, parts: any integers (n,)."""
    return _counted(keys, parts)[1]


def _counted(keys: Array, parts: Array) -> tuple[int, int]:
    """(different keys, those of them that stand in more than one part)."""
    if not len(keys):
        return 0, 0
    order = np.argsort(keys)  # one sort of a million keys takes most of the time of the proof
    ordered, places = keys[order], parts[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    crossing = np.minimum.reduceat(places, starts) != np.maximum.reduceat(places, starts)
    return len(starts), int(crossing.sum())


def proof(
    fold: Array,
    units: Array,
    groups: Array | None = None,
    texts: Array | None = None,
    pairs: Array | None = None,
    given: Array | None = None,
    time: Array | None = None,
) -> list[dict[str, Any]]:
    """What was checked, how many things, and how many cross a boundary: [{"what", "checked", "crossing", "note"}].

    fold: int (n,), the final part of each row. units: int (n,). groups: int (n,), negative for none. texts: integer
    (n,), equal for equal texts. pairs: int (p, 2), near-duplicates. given: int (n,), SEALED or GIVEN for rows of the
    person's own files, else FREE. time: float (n,), where the folds follow time; NaN for rows of the person's own files
    that have none. What is None is not checked.

    Rows of the person's own files keep their part, so what they share with other rows is counted apart.
    """
    origin = np.full(len(fold), FREE) if given is None else given
    free = origin == FREE
    checks = []
    for what, keys in (("groups", groups), ("same texts", texts), ("units", units)):
        if keys is not None:
            checks += _keys(what, np.asarray(keys), fold, origin, free)
    if pairs is not None:
        checks += _pairs(np.asarray(pairs).reshape(-1, 2), fold, origin, free)
    if time is not None:
        checks.append(_in_time(fold[free], units[free], time[free]))
        if not free.all():
            checks.append(_before_yours(time[free & (fold != SEALED)], time[~free]))
    return checks


def _keys(what: str, keys: Array, fold: Array, origin: Array, free: Array) -> list[dict[str, Any]]:
    known = keys >= 0 if what == "groups" else np.ones(len(keys), dtype=bool)
    mine = known & free
    checks = [_check(what, *_counted(keys[mine], fold[mine]))]
    if not free.all():
        checked = len(np.unique(keys[known & ~free]))
        checks.append(_check(f"{what}, your files", checked, crossings(keys[known], origin[known]), YOURS))
    return checks


def _pairs(pairs: Array, fold: Array, origin: Array, free: Array) -> list[dict[str, Any]]:
    own = free[pairs].all(axis=1)
    ends = fold[pairs[own]]
    checks = [_check("near-duplicate pairs", int(own.sum()), int((ends[:, 0] != ends[:, 1]).sum()))]
    if not free.all():
        ends = origin[pairs[~own]]
        crossing = int((ends[:, 0] != ends[:, 1]).sum())
        checks.append(_check("near-duplicate pairs, your files", int((~own).sum()), crossing, YOURS))
    return checks


def _in_time(fold: Array, units: Array, time: Array) -> dict[str, Any]:
    """Units that are not older than some unit of a later part."""
    _, unit = np.unique(units, return_inverse=True)
    newest = np.full(int(unit.max(initial=-1)) + 1, -np.inf)
    np.maximum.at(newest, unit, time)
    late = newest[unit]
    rank = np.where(fold == SEALED, np.iinfo(np.int64).max, fold)
    earlier = np.inf
    wrong = 0
    for part in np.unique(rank)[::-1]:
        mine = rank == part
        wrong += len(np.unique(unit[mine & (late >= earlier)]))
        earlier = min(earlier, late[mine].min())
    note = "the newest row of each is older than the newest row of every unit in a later part"
    return _check("units in order of time", len(newest), wrong, note)


def _before_yours(training: Array, yours: Array) -> dict[str, Any]:
    """Training rows that are newer than the oldest row of the person's own files: the model would know their future."""
    newer = int((training > np.nanmin(yours, initial=np.inf)).sum())
    note = "rows of data.train that are newer than the oldest row of your own validation or test file"
    return _check("rows in order of time, your files", len(training), newer, note)


def _check(what: str, checked: int, crossing: int, note: str = "") -> dict[str, Any]:
    return {"what": what, "checked": checked, "crossing": crossing, "note": note}
