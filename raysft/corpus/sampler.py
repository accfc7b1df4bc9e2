"""Which rows make up each step: a pure function of lengths, seed and epoch, whatever the number of workers.

Rows are shuffled, cut into pools, sorted by length within each pool and cut into global batches, so that rows of one
batch have about the same length and little is padded; the batches are then shuffled. A global batch is cut into
micro-batches, and a micro-batch is the unit of everything that could differ between worlds: its rows, its padding, its
dropout seed. Any worker may compute any micro-batch; the step is the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

POOL_BATCHES = 16
Micro = np.ndarray[Any, Any]  # row positions, int64
Step = list[Micro]


def epoch_steps(lengths: np.ndarray[Any, Any], batch_size: int, micro_batch: int, seed: int, epoch: int) -> list[Step]:
    """All optimizer steps of one epoch; every row exactly once. lengths: tokens per row, shape (rows,)."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    pool = batch_size * POOL_BATCHES
    pools = [order[start : start + pool] for start in range(0, len(order), pool)]
    by_length = np.concatenate([each[np.argsort(lengths[each], kind="stable")] for each in pools]) if pools else order
    batches = [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]
    return [split(batches[index], micro_batch) for index in random.permutation(len(batches))]


def split(rows: np.ndarray[Any, Any], size: int) -> Step:
    """Consecutive pieces of at most `size` rows."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Optimizer steps in one epoch; the last batch of the row order may be smaller."""
    return -(-rows // batch_size)


def by_length(lengths: np.ndarray[Any, Any], batch: int) -> list[Micro]:
    """Batches for evaluation: longest first, so that running out of memory happens at once."""
    return split(np.argsort(-lengths, kind="stable"), batch)


def padded_tokens(lengths: np.ndarray[Any, Any], steps: list[Step]) -> int:
    """Positions computed in these steps, padding included."""
    return int(sum(len(micro) * lengths[micro].max() for step in steps for micro in step))
