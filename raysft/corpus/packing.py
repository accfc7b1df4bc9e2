"""Several rows in one sequence: which rows, and where each of them begins.

Rows go, the longest first, each into the first sequence that has room (first-fit decreasing: at most 11/9 of the
fewest sequences that could do, and 6/9 more; Dosa 2007). The rows of some of the sequences, packed anew in the same
order, come out as these sequences again: what stands elsewhere never changed where a row fits first. So a micro-batch
is its rows and nothing else, as without packing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

LENGTH = 512  # tokens of a sequence at the least: what is left empty is about half a short row, a few percent of it
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Layout:
    """Where rows stand in a batch. R rows, S sequences."""

    sequence: Array  # int64 (R,)
    start: Array  # int64 (R,): position of a row's first token in its sequence
    lengths: Array  # int64 (R,): tokens of each row

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(S, positions of the longest sequence)."""
        if not len(self.sequence):
            return 0, 0
        return int(self.sequence.max()) + 1, int((self.start + self.lengths).max())

    @property
    def positions(self) -> int:
        """Computed in a forward pass, padding included."""
        sequences, longest = self.shape
        return sequences * longest


def one_a_sequence(lengths: Array) -> Layout:
    """Each row a sequence of its own, which is padded to the longest."""
    return Layout(np.arange(len(lengths)), np.zeros(len(lengths), np.int64), lengths.astype(np.int64))


def packed(lengths: Array, size: int) -> Layout:
    """Rows packed into sequences of at most `size` tokens, none of which is longer. lengths: int (R,)."""
    sequence, start = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    used: list[int] = []
    for row in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[row])
        place = next((number for number, taken in enumerate(used) if taken + length <= size), len(used))
        if place == len(used):
            used.append(0)
        sequence[row], start[row] = place, used[place]
        used[place] += length
    return Layout(sequence, start, lengths.astype(np.int64))


def layout_of(lengths: Array, size: int | None) -> Layout:
    """Packed into sequences of `size`; None: a sequence for each row. lengths: int (R,)."""
    return one_a_sequence(lengths) if size is None else packed(lengths, size)
