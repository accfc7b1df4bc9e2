"""How many rows of each label each bin shall hold: whole numbers as near as can be to what the shares ask.

Rounding each number by itself lets the errors pile up: with 1.5 rows of each of 77 labels due in the test part and 1.7
in each fold, every label would round the test part down. Controlled rounding (Cox 1987) rounds every number up or
down, and chooses which so that the sums come out as well.

Shapes: L labels, B bins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
NEARLY = 1e-9  # closer to a whole number than this is that number


@dataclass(frozen=True)
class Bins:
    """What is filled."""

    fold: Array  # int64 (B,): the number that stands for the bin
    share: Array  # float64 (B,), sums to 1
    trains: Array  # bool (B,): trains unless another fold than the usual one validates

    def each(self) -> Iterator[tuple[int, float]]:
        """(fold, share) of each bin."""
        return zip(self.fold.tolist(), self.share.tolist(), strict=True)


def whole(wanted: Array, sums: Array, liking: Array, trains: Array, trained: Array) -> Array:
    """Every number of `wanted` rounded up or down: int64 (L, B), each row with its sum, the columns near theirs.

    wanted: float (L, B), not negative, rows with whole sums. sums: float (B,), what the columns should add up to; they
    do within 1 unless the labels leave no choice. liking: float (L, B), where to round up rather. trains: bool (B,),
    the bins that train whatever is asked. trained: bool (L,), labels that need no training row of these; of the others
    at least one row trains.
    """
    rounded = np.rint(wanted)
    wanted = np.where(np.abs(wanted - rounded) < NEARLY, rounded, wanted)
    down = np.floor(wanted).astype(np.int64)
    may = wanted > down
    rows = np.rint(wanted.sum(axis=1)).astype(np.int64)
    _secure_training(down, may, liking, trains, (rows > 0) & ~trained)
    up = _likeliest(may, liking, rows - down.sum(axis=1))
    _even_out(up, may, liking, sums - down.sum(axis=0))
    return np.asarray(down + up)


def _secure_training(down: Array, may: Array, liking: Array, trains: Array, needs: Array) -> None:
    """Give each label that is in no training bin yet its likeliest one, for good."""
    bins = np.flatnonzero(trains)
    labels = np.flatnonzero(needs & (down[:, bins].sum(axis=1) == 0))
    chosen = bins[np.where(may, liking, -np.inf)[np.ix_(labels, bins)].argmax(axis=1)]
    down[labels, chosen] += 1
    may[labels, chosen] = False


def _likeliest(may: Array, liking: Array, count: Array) -> Array:
    """bool (L, B): the `count` likeliest bins of each label among those that `may` round up."""
    order = np.argsort(np.where(may, -liking, np.inf), axis=1, kind="stable")
    chosen = np.zeros_like(may)
    np.put_along_axis(chosen, order, np.arange(may.shape[1]) < count[:, None], axis=1)
    return chosen


def _even_out(up: Array, may: Array, liking: Array, sums: Array) -> None:
    """Move ups from bins with too many to bins with too few, within a label, where it is liked most; in place.

    Each move brings two columns closer together, so that it ends.
    """
    while True:
        excess = up.sum(axis=0) - sums
        for taker, giver in _uneven(excess):
            labels = np.flatnonzero(up[:, giver] & may[:, taker] & ~up[:, taker])
            if len(labels):
                break
        else:
            return
        moves = max(1, int((excess[giver] - excess[taker]) / 2))
        cost = liking[labels, giver] - liking[labels, taker]
        labels = labels[np.argsort(cost, kind="stable")[:moves]]
        up[labels, giver], up[labels, taker] = False, True


def _uneven(excess: Array) -> list[tuple[int, int]]:
    """(taker, giver) bins that differ by more than one row, the most uneven first."""
    difference = excess[None, :] - excess[:, None]
    takers, givers = np.nonzero(difference > 1 + NEARLY)
    order = np.argsort(-difference[takers, givers], kind="stable")
    return list(zip(takers[order].tolist(), givers[order].tolist(), strict=True))


def remaining(wanted: Array, held: Array, rows: Array) -> Array:
    """What each bin should still get of each label: float (L, B), not negative, rows adding up to `rows`.

    wanted: float (L, B), asked in all. held: int (L, B), there already. rows: int (L,), still to be placed. Where a
    bin holds more than it should, all others get less by the same number of rows.
    """
    gap = wanted - held
    falling = -np.sort(-gap, axis=1)
    # The level at which the gaps above it add up to `rows`: water in a vessel of uneven ground.
    levels = (np.cumsum(falling, axis=1) - rows[:, None]) / np.arange(1, gap.shape[1] + 1)
    depth = (falling > levels).sum(axis=1)
    level = levels[np.arange(len(gap)), np.maximum(depth, 1) - 1]
    return np.asarray(np.maximum(gap - level[:, None], 0))
