"""The labels of each row, by which the parts shall be alike.

Shapes: n rows, L labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Strata:
    """The labels of each row, by which the parts shall be alike: none, one or several, as numbers 0 to count - 1."""

    start: Array  # int64 (n + 1,): row i has ids[start[i]:start[i + 1]]
    ids: Array  # int64 (occurrences,)
    count: int  # L

    @classmethod
    def one(cls, labels: Array) -> Strata:
        """One label per row: int (n,)."""
        count = int(labels.max()) + 1 if len(labels) else 0
        return cls(np.arange(len(labels) + 1), np.asarray(labels, dtype=np.int64), count)

    @classmethod
    def several(cls, labels: Iterable[Iterable[int]]) -> Strata:
        """Any number of labels per row; a label counts once per row."""
        rows = [sorted(set(row)) for row in labels]
        ids = np.array([label for row in rows for label in row], dtype=np.int64)
        start = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
        return cls(start, ids, int(ids.max()) + 1 if len(ids) else 0)

    @classmethod
    def none(cls, rows: int) -> Strata:
        """No labels: the parts get their sizes, and nothing else is balanced."""
        return cls(np.zeros(rows + 1, dtype=np.int64), np.zeros(0, dtype=np.int64), 0)

    def take(self, rows: Array) -> Strata:
        """The labels of these rows, in this order."""
        length = np.diff(self.start)[rows]
        start = np.concatenate([[0], np.cumsum(length)])
        where = np.repeat(self.start[:-1][rows] - start[:-1], length) + np.arange(start[-1])
        return Strata(start, self.ids[where], self.count)

    def occurrences(self) -> tuple[Array, Array]:
        """(row, label) of every label of every row; a row without labels has the label `count`."""
        length = np.diff(self.start)
        bare = np.flatnonzero(length == 0)
        row = np.concatenate([np.repeat(np.arange(len(length)), length), bare])
        return row, np.concatenate([self.ids, np.full(len(bare), self.count)])
