"""How much each row moves a measure: its influence, from which errors and paired differences follow at once.

A measure is a function of sums over rows. Its influence is the derivative by the weight of a row, all weights being 1;
the influences of all rows sum to zero, and the root of the sum of their squares is the standard error of the measure
(infinitesimal jackknife: Jaeckel 1972; Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans, section
6). Of two models on the same rows the influence of their difference is the difference of their influences, so that a
paired comparison costs a subtraction where a bootstrap costs a thousand evaluations.

n rows, K classes, types or labels. All results are float64 (n,).
"""

from __future__ import annotations

import numpy as np

from raysft.metrics.scores import Array


def of_ratio(sums: Array, counts: Array) -> Array:
    """Of sum(sums) / sum(counts), such as a mean loss over tokens: what each row adds to either, (n,)."""
    total = float(counts.sum())
    if total == 0:
        return np.zeros(len(sums))
    return np.asarray((sums - sums.sum() / total * counts) / total)


def of_mean(values: Array) -> Array:
    """Of the mean over rows."""
    return of_ratio(values.astype(np.float64), np.ones(len(values)))


def of_f1_macro(labels: Array, predicted: Array, classes: int) -> Array:
    """Of macro-F1 where each row has one label, int (n,); the classes that occur being the same."""
    true, given = (np.bincount(each, minlength=classes) for each in (labels, predicted))
    hits = np.bincount(labels[labels == predicted], minlength=classes)
    both = np.maximum(true + given, 1).astype(np.float64)
    present = max(1, int((true + given > 0).sum()))
    f1 = 2 * hits / both
    right = labels == predicted
    # d(2 hits / both): a row that is right adds 2 to either of its class, another 1 to `both` of its two classes.
    moved = np.where(right, 2 * (1 - f1[labels]) / both[labels], -f1[labels] / both[labels])
    moved -= np.where(right, 0.0, f1[predicted] / both[predicted])
    return np.asarray(moved / present)


def of_f1_macro_counts(hits: Array, true: Array, given: Array) -> Array:
    """Of macro-F1 from what is right, true and given in each row, (n, K) each."""
    both = (true.sum(axis=0) + given.sum(axis=0)).astype(np.float64)
    present = max(1, int((both > 0).sum()))
    both = np.maximum(both, 1)
    f1 = 2 * hits.sum(axis=0) / both
    return np.asarray(((2 * hits - f1 * (true + given)) / both).sum(axis=1) / present)


def of_f1_micro_counts(hits: Array, true: Array, given: Array) -> Array:
    """Of micro-F1, likewise."""
    return of_ratio(2 * hits.sum(axis=1).astype(np.float64), (true + given).sum(axis=1).astype(np.float64))
