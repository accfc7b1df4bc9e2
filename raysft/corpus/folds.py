"""Which rows train, validate and test: stratified by label, never splitting a unit, seeded.

A unit is the set of rows that must stay together: the rows of one group (customer), of one near-duplicate cluster, of
one text, and whatever these chain together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

SEALED = -1  # the test part
GIVEN = -2  # the person's own validation file


def units_of(groups: Sequence[str], same: Iterable[tuple[int, int]]) -> np.ndarray[Any, Any]:
    """A unit number per row: rows of one group ("" is no group) and all pairs in `same` are joined transitively."""
    parent = list(range(len(groups)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[str, int] = {}
    for row, group in enumerate(groups):
        if group:
            parent[root(row)] = root(first.setdefault(group, row))
    for a, b in same:
        parent[root(a)] = root(b)
    _, units = np.unique([root(row) for row in range(len(groups))], return_inverse=True)
    return units


def assign(
    labels: np.ndarray[Any, Any], units: np.ndarray[Any, Any], shares: Sequence[float], seed: int
) -> np.ndarray[Any, Any]:
    """A bin per row (0 .. len(shares)-1), whole units only, each label spread as `shares` (which sum to 1) ask.

    Greedy, largest and rarest units first: a unit goes to the bin whose label counts it brings closest to their
    targets (relative squared error, the criterion of scikit-learn's StratifiedGroupKFold extended to
    unequal bins). Never fails: a label with fewer rows than bins is in some bins only, the largest bins first.

    labels: int, shape (rows,); units: int, shape (rows,).
    """
    if len(labels) == 0:
        return np.zeros(0, dtype=np.int64)
    counts = np.zeros((units.max() + 1, labels.max() + 1))
    np.add.at(counts, (units, labels), 1)
    total = counts.sum(axis=0)
    share = np.asarray(shares, dtype=float)
    target = share[:, None] * total[None, :]  # (bins, labels)
    size_target = share * len(labels)
    filled = np.zeros_like(target)
    placed = np.zeros(len(counts), dtype=np.int64)
    for unit in _order(counts, total, seed):
        row = counts[unit]
        present = np.flatnonzero(row)
        want, have = target[:, present], filled[:, present]
        # Change of squared error if the unit went to each bin, relative to the label's rows, plus the same for the
        # bin's size, relative to its target, so that bins stay in proportion when labels are many and small.
        change = (((have + row[present] - want) ** 2 - (have - want) ** 2) / total[present]).sum(axis=1)
        size = filled.sum(axis=1)
        change += ((size + row.sum() - size_target) ** 2 - (size - size_target) ** 2) / size_target
        # Ties go to the bin with the largest share, then to the last one: training before validation and test.
        best = max(range(len(share)), key=lambda b: (-round(change[b], 9), share[b], b))
        filled[best] += row
        placed[unit] = best
    return np.asarray(placed[units])


def _order(counts: np.ndarray[Any, Any], total: np.ndarray[Any, Any], seed: int) -> list[int]:
    """Large units first, then those with the rarest label; equals in seeded order."""
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    rarest = np.where(counts > 0, total[None, :], np.inf).min(axis=1)
    return sorted(shuffled.tolist(), key=lambda unit: (-counts[unit].sum(), rarest[unit]))


def fold_per_row(
    labels: np.ndarray[Any, Any], units: np.ndarray[Any, Any], k: int, test: float, seed: int
) -> np.ndarray[Any, Any]:
    """SEALED or a fold number per row: `test` of the rows sealed, the rest in max(k, 1) equal folds."""
    folds = max(k, 1)
    shares = [test] + [(1 - test) / folds] * folds if test > 0 else [1 / folds] * folds
    bins = assign(labels, units, shares, seed)
    return bins - 1 if test > 0 else bins


def crossings(keys: Sequence[Any], parts: Sequence[str]) -> int:
    """How many keys stand in more than one part: zero is the proof that nothing leaks. "" and None are no keys."""
    seen: dict[Any, str] = {}
    crossing = set()
    for key, part in zip(keys, parts, strict=True):
        if key in ("", None):
            continue
        if seen.setdefault(key, part) != part:
            crossing.add(key)
    return len(crossing)


def part_of(fold: int, validation: int, k: int) -> str:
    """train, validation or test, from a fold number and the fold that validates."""
    if fold == SEALED:
        return "test"
    if fold == GIVEN or (k > 0 and fold == validation):
        return "validation"
    return "train"
