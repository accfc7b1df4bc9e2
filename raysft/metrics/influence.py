"""How much each row moves a measure: its influence, from which errors and paired differences follow at once.

A measure is a function of sums over rows. The influence of a row is what the measure loses without it, less the mean of
that over rows; the root of the sum of squares is the standard error of the measure (jackknife: Tukey 1958; Efron 1982,
The Jackknife, the Bootstrap and Other Resampling Plans, chapters 3 and 6). Of two models on the same rows the influence
of their difference is the difference of their influences, so that a paired comparison costs a subtraction where a
bootstrap costs a thousand evaluations. A class with a single row says, without it, how classes differ, where the
bootstrap and the derivative would take its F1 for certain.

n rows, K classes, types or labels. All results are float64 (n,).
"""

from __future__ import annotations

import numpy as np

from raysft.metrics.label_sets import f1_of, macro_of
from raysft.metrics.scores import Array


def of_ratio(sums: Array, counts: Array) -> Array:
    """Of sum(sums) / sum(counts), such as a mean loss over tokens: what each row adds to either, (n,). By the
    derivative, which differs from leaving out by a share of 1 / n."""
    total = float(counts.sum())
    if total == 0:
        return np.zeros(len(sums))
    return np.asarray((sums - sums.sum() / total * counts) / total)


def of_mean(values: Array) -> Array:
    """Of the mean over rows."""
    return of_ratio(values.astype(np.float64), np.ones(len(values)))


def of_f1_macro(labels: Array, predicted: Array, classes: int) -> Array:
    """Of macro-F1 where each row has one label, int (n,)."""
    true, given = (np.bincount(each, minlength=classes) for each in (labels, predicted))
    hits = np.bincount(labels[labels == predicted], minlength=classes)
    both = true + given
    f1, present = f1_of(hits, true, given), int((both > 0).sum())
    right = labels == predicted
    # Without a row that is right its class has 1 hit and 2 mentions less; else two classes have 1 mention less each.
    own_less = _f1(hits[labels] - right, both[labels] - 1 - right)
    other_less = np.where(right, 0.0, _f1(hits[predicted], both[predicted] - 1))
    total = f1.sum() + own_less - f1[labels] + np.where(right, 0.0, other_less - f1[predicted])
    gone = (both[labels] - 1 - right == 0).astype(int) + (~right & (both[predicted] == 1))
    return _centred(f1.sum() / max(1, present) - total / np.maximum(1, present - gone))


def of_f1_macro_counts(hits: Array, true: Array, given: Array) -> Array:
    """Of macro-F1 from what is right, true and given in each row, (n, K) each."""
    all_hits, all_true, all_given = (each.sum(axis=0) for each in (hits, true, given))
    without = macro_of(all_hits - hits, all_true - true, all_given - given)
    return _centred(float(macro_of(all_hits[None], all_true[None], all_given[None])[0]) - without)


def of_f1_micro_counts(hits: Array, true: Array, given: Array) -> Array:
    """Of micro-F1, likewise."""
    return of_ratio(2 * hits.sum(axis=1).astype(np.float64), (true + given).sum(axis=1).astype(np.float64))


def _f1(hits: Array, both: Array) -> Array:
    return np.asarray(np.where(both > 0, 2 * hits / np.maximum(both, 1), 0.0))


def _centred(moved: Array) -> Array:
    return np.asarray(moved - moved.mean()) if len(moved) else moved
