"""Confident learning (Northcutt, Jiang, Chuang, JAIR 70, 2021, section 3.1): which labels are given for which others.

Written from the paper, because the package cleanlab is AGPL-3.0 and raysft is Apache-2.0.

Shapes: R rows, C labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
PRIOR = 3.0  # rows added to every pair of labels: one or two rows are no habit


@dataclass(frozen=True)
class Joint:
    """Rows that carry one label and are confidently another, calibrated to the counts of the labels."""

    labels: int  # C
    pairs: Array  # (P,) int64, ascending: given * C + meant, the two not alike
    rows: Array  # (P,) float64: rows of each pair, scaled up to all rows of the given label

    @property
    def wrong(self) -> int:
        """How many labels are wrong, by this estimate."""
        return round(float(self.rows.sum()))

    def habit(self, given: Array, meant: Array) -> Array:
        """Log of how many times as often as the average pair each pair is mixed up; (R,), from given and meant (R,).

        Where people take one label for one certain other, that is what its odd rows most likely are. By Bayes' rule
        the odds that a row is wrong are those of the probe times P(given | meant), which this stands for.
        """
        if not len(self.pairs):
            return np.zeros(len(given))
        wanted = given * self.labels + meant
        at = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        rows = np.where(self.pairs[at] == wanted, self.rows[at], 0.0)
        average = self.rows.sum() / (self.labels * (self.labels - 1))
        return np.asarray(np.log((rows + PRIOR) / (average + PRIOR)))


def confident_joint(probabilities: Array, codes: Array) -> Joint:
    """probabilities: out of fold, (R, C); codes: given labels below C, (R,).

    A row counts with confidence for a label when it reaches the mean probability of that label among the rows that
    carry it; where it does for several, the most probable one counts.
    """
    labels = probabilities.shape[1]
    counts = np.bincount(codes, minlength=labels)
    own = probabilities[np.arange(len(codes)), codes]
    means = np.bincount(codes, weights=own, minlength=labels) / np.maximum(counts, 1)
    threshold = np.where(counts > 0, means, np.inf).astype(np.float32)
    confident = np.where(probabilities >= threshold, probabilities, -1.0)
    meant, counted = confident.argmax(axis=1), confident.max(axis=1) > 0
    scale = counts / np.maximum(np.bincount(codes[counted], minlength=labels), 1)
    differ = counted & (meant != codes)
    pairs, rows = np.unique(codes[differ].astype(np.int64) * labels + meant[differ], return_counts=True)
    return Joint(labels, pairs, rows * scale[pairs // labels])
