"""Which rows make up each step: a pure function of lengths, settings, seed and epoch, whatever the number of workers.

Rows are shuffled, cut into pools, sorted by length within each pool and cut into global batches, so that rows of one
batch have about the same length and little is padded; the batches are then shuffled. A batch holds a number of rows, or
as many as a budget of positions allows. A global batch is cut into micro-batches, and a micro-batch is the unit of
everything that could differ between worlds: its rows, its padding, its dropout seed. Any worker may compute any
micro-batch; the step is the same.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from raysft.corpus.packing import Layout, layout_of

POOL_BATCHES = 16
Micro = np.ndarray[Any, Any]  # row positions, int64
Step = list[Micro]


@dataclass(frozen=True)
class Batching:
    """How rows become steps, and steps micro-batches."""

    rows: int  # of a step, where there is no budget of positions
    micro_rows: int | None  # most rows of a micro-batch
    tokens: int | None = None  # positions of a step at most, each row padded to the longest; packed: its tokens
    micro_tokens: int | None = None  # most positions of a micro-batch, of one row at least
    bucketed: bool = True  # else rows stay in the order of the shuffle
    packed: int | None = None  # tokens of a sequence that holds several rows, at least as many as the longest row has


@dataclass(frozen=True)
class Sampler:
    """All steps of a run, and where each epoch begins. lengths: tokens per row, int (rows,)."""

    lengths: np.ndarray[Any, Any]
    batching: Batching
    seed: int
    epochs: int

    def steps(self, epoch: int) -> list[Step]:
        """The optimizer steps of one epoch; every row exactly once."""
        random = np.random.default_rng([self.seed, epoch])
        batches = self._batches(random.permutation(len(self.lengths)))
        return [self.cut(batches[index]) for index in random.permutation(len(batches))]

    @cached_property
    def ends(self) -> list[int]:
        """Steps done when each epoch ends, (epochs,). Under a budget of positions each shuffle gives another number."""
        if self.batching.tokens is None:
            one = steps_per_epoch(len(self.lengths), self.batching.rows)
            return [one * (epoch + 1) for epoch in range(self.epochs)]
        shuffles = (np.random.default_rng([self.seed, epoch]) for epoch in range(self.epochs))
        counts = [len(self._batches(random.permutation(len(self.lengths)))) for random in shuffles]
        return [int(end) for end in np.cumsum(counts)]

    @property
    def total(self) -> int:
        """Optimizer steps of the whole run."""
        return self.ends[-1]

    def place(self, done: int) -> tuple[int, int]:
        """(epoch, steps done in it) after `done` steps of the run; at an epoch's end that of the next epoch."""
        epoch = bisect_right(self.ends, done)
        return epoch, done - (self.ends[epoch - 1] if epoch else 0)

    def epochs_done(self, done: int) -> float:
        """Epochs after `done` steps, as a fraction: 1.5 in the middle of the second."""
        epoch, within = self.place(done)
        return epoch + within / (self.ends[epoch] - (done - within)) if within else float(epoch)

    def _batches(self, order: Micro) -> list[Micro]:
        batching = self.batching
        if batching.packed is not None:  # as shuffled: like lengths would leave like gaps
            if batching.tokens is not None:
                return by_budget(order, self.lengths, batching.tokens, padded=False)
            return split(order, batching.rows)
        if batching.tokens is None:
            size = batching.rows
        else:  # as many rows as fit when all have the mean length
            size = max(1, int(batching.tokens // max(1.0, self.lengths.mean()))) if len(order) else 1
        if batching.bucketed:
            order = _by_pools(order, self.lengths, size * POOL_BATCHES, turning=batching.tokens is not None)
        return split(order, size) if batching.tokens is None else by_budget(order, self.lengths, batching.tokens)

    def cut(self, rows: Micro) -> Step:
        """A step's rows as micro-batches."""
        if self.batching.packed is not None:
            return self._cut_packed(rows, self.batching.packed)
        most = self.most_rows(int(self.lengths[rows].max()))
        # Even pieces rather than full ones and a rest: what one rank waits for another is what a step loses.
        return np.array_split(rows, -(-len(rows) // min(most, len(rows))))

    def _cut_packed(self, rows: Micro, size: int) -> Step:
        """Whole sequences: as many pieces as there would be without packing, or as positions ask for."""
        sequences = self.layout(rows).shape[0]
        pieces = max(-(-sequences // self._sequences(size)), -(-len(rows) // (self.batching.micro_rows or len(rows))))
        return self.parts(rows, pieces)

    def parts(self, micro: Micro, count: int) -> Step:
        """A micro-batch in so many smaller ones, or one a row. Packed sequences stay whole as long as there are enough
        of them, so that a part has its share of the positions."""
        count = min(count, len(micro))
        if self.batching.packed is None:
            return np.array_split(micro, count)
        layout = self.layout(micro)
        if count > layout.shape[0]:
            return np.array_split(micro[np.argsort(layout.sequence, kind="stable")], count)
        groups = np.array_split(np.arange(layout.shape[0]), count)
        return [micro[np.isin(layout.sequence, group)] for group in groups]

    def _sequences(self, size: int) -> int:
        """Most packed sequences of a micro-batch, where positions set a limit."""
        return rows_that_fit(self.batching.micro_tokens, size) or len(self.lengths)

    def layout(self, micro: Micro) -> Layout:
        """Where the rows of a micro-batch stand in its sequences."""
        return layout_of(self.lengths[micro], self.batching.packed)

    def positions(self, steps: list[Step]) -> int:
        """Computed in these steps, padding included."""
        return sum(self.layout(micro).positions for step in steps for micro in step)

    def heaviest(self) -> list[Micro]:
        """The micro-batches of which one takes most memory of all that any epoch may bring, the longest rows first.

        Memory grows with the positions and, where each token is compared with each, with the length as well; so these
        are all for which no other has more positions and longer rows. Empty where there are no rows.
        """
        order = np.argsort(-self.lengths, kind="stable")
        if self.batching.packed is not None:
            return [rows for rows in [self._full(order, self.batching.packed)] if len(rows)]
        lengths = self.lengths[order]
        found: list[Micro] = []
        positions = -1
        for start in np.unique(-lengths, return_index=True)[1]:  # of each length, the longest first
            longest = int(lengths[start])
            rows = order[start : start + self.most_rows(longest)]
            if len(rows) * longest > positions:
                positions = len(rows) * longest
                found.append(rows)
        return found

    def _full(self, order: Micro, size: int) -> Micro:
        """The longest rows that fill the sequences of a micro-batch. order: all rows, the longest first."""
        batching, rows = self.batching, len(order)
        step = min(rows, batching.rows) if batching.tokens is None else rows
        # Of two sequences of a packing one is more than half full.
        by_tokens = rows if batching.tokens is None else -(-2 * batching.tokens // size)
        sequences = min(self._sequences(size), batching.micro_rows or rows, by_tokens, max(1, step))
        fit = int(np.searchsorted(np.cumsum(self.lengths[order]), sequences * size, side="right"))
        return order[: min(max(1, fit), step)]

    def most_rows(self, longest: int) -> int:
        """Of a micro-batch whose longest row has so many tokens."""
        batching = self.batching
        rows = batching.rows if batching.tokens is None else max(1, batching.tokens // max(1, longest))
        return min(batching.micro_rows or rows, rows_that_fit(batching.micro_tokens, longest) or rows)


def _by_pools(order: Micro, lengths: np.ndarray[Any, Any], pool: int, turning: bool) -> Micro:
    """Rows sorted by length within each pool; `turning`: every other pool from the longest down.

    Where batches may span two pools, turning brings rows of like length together at the border.
    """
    pools = [each[np.argsort(lengths[each], kind="stable")] for each in split(order, pool)]
    if turning:
        pools[1::2] = [each[::-1] for each in pools[1::2]]
    return np.concatenate(pools) if pools else order


def rows_that_fit(positions: int | None, longest: int) -> int | None:
    """Rows of `longest` tokens in so many positions, at least one; None: any number."""
    return None if positions is None else max(1, positions // max(1, longest))


def split(rows: Micro, size: int) -> Step:
    """Consecutive pieces of at most `size` rows."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def by_budget(rows: Micro, lengths: np.ndarray[Any, Any], budget: int, padded: bool = True) -> list[Micro]:
    """Consecutive pieces of at most `budget` positions, each row as long as its piece's longest, or, not padded, as
    long as it is; at least one row."""
    starts, first, longest, total = [], 0, 0, 0
    for index, length in enumerate(lengths[rows].tolist()):
        longest, total = max(longest, length), total + length
        if index > first and (longest * (index - first + 1) if padded else total) > budget:
            starts.append(index)
            first, longest, total = index, length, length
    return np.split(rows, starts) if len(rows) else []


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Optimizer steps in one epoch; the last batch of the row order may be smaller."""
    return -(-rows // batch_size)


def by_length(lengths: np.ndarray[Any, Any], rows: int, tokens: int) -> list[Micro]:
    """Batches for evaluation: longest first, so that running out of memory happens at once.

    Each has at most `rows` rows and `tokens` positions, and one row at least.
    """
    order, batches, start = np.argsort(-lengths, kind="stable"), [], 0
    while start < len(order):
        size = min(rows, max(1, tokens // max(1, int(lengths[order[start]]))))
        batches.append(order[start : start + size])
        start += size
    return batches
