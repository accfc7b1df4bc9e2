"""Scores where a row may have several labels: each label of each row is a decision of its own.

n rows, C labels, R resamples. targets and given are bool (n, C); logits float (n, C); a label is given where its
probability, the sigmoid of its logit, reaches the threshold. The loss is in nats.
"""

from __future__ import annotations

import math

import numpy as np

from raysft.metrics.interval import Estimate, bounded, resamples
from raysft.metrics.scores import Array

NAMES = ("accuracy", "f1_micro", "f1_macro", "loss")
DEFAULT_THRESHOLD = 0.5
THRESHOLDS = [percent / 100 for percent in range(1, 100)]


def given_labels(logits: Array, threshold: float) -> Array:
    """Which labels each row gets, bool (n, C)."""
    return np.asarray(logits.astype(np.float64) >= _logit(threshold))


def log_sigmoid(logits: Array) -> Array:
    """Log-probability of having the label, float64 (n, C); of not having it: log_sigmoid(-logits)."""
    return np.asarray(-np.logaddexp(0.0, -logits.astype(np.float64)))


def best_threshold(targets: Array, logits: Array) -> float:
    """The threshold, in hundredths, with the highest micro-F1; of equal ones the nearest to 0.5."""
    reached = np.searchsorted([_logit(t) for t in THRESHOLDS], logits.astype(np.float64), side="right")
    f1 = f1_of(_at_least(reached[targets]), targets.sum(), _at_least(reached))
    return min(THRESHOLDS, key=lambda t: (-f1[THRESHOLDS.index(t)], abs(t - DEFAULT_THRESHOLD)))


def point_metrics(targets: Array, logits: Array, threshold: float) -> dict[str, float]:
    """All of NAMES as single numbers; see `label_set_estimates`."""
    found = _measures(targets, given_labels(logits, threshold), logits, np.ones((1, len(targets))))
    return {name: float(values[0]) for name, values in found.items()}


def label_set_estimates(
    targets: Array, logits: Array, threshold: float, units: Array, seed: int = 0
) -> dict[str, Estimate]:
    """Every measure with its interval over units (n,).

    accuracy: share of rows with exactly the right labels. f1_micro: F1 over all decisions. f1_macro: mean F1 of the
    labels that some row has or gets. loss: mean binary cross-entropy of all decisions.
    """
    given = given_labels(logits, threshold)
    values = point_metrics(targets, logits, threshold)
    draws = [_measures(targets, given, logits, weights) for weights in resamples(units, seed)]
    return {
        name: bounded(values[name], np.concatenate([each[name] for each in draws]), len(targets), units, name)
        for name in NAMES
    }


def label_estimates(targets: Array, given: Array, units: Array, seed: int = 0) -> list[Estimate]:
    """F1 of each label with its interval; n is the rows that have it."""
    values = f1_of(*_counts(targets, given, np.ones((1, len(targets)))))[0]
    found = [_counts(targets, given, weights) for weights in resamples(units, seed)]
    hits, of_true, of_given = (np.concatenate(each) for each in zip(*found, strict=True))
    draws = np.where(of_true + of_given > 0, f1_of(hits, of_true, of_given), np.nan)
    return [
        bounded(float(values[c]), draws[:, c], int(targets[:, c].sum()), units[targets[:, c]], "f1")
        for c in range(targets.shape[1])
    ]


def label_set_difference(targets: Array, first: Array, second: Array, units: Array, seed: int = 0) -> Estimate:
    """Macro-F1 of the labels `first` minus that of `second`, on the same rows, resampled together (paired)."""

    def gain(weights: Array) -> Array:
        return macro_of(*_counts(targets, first, weights)) - macro_of(*_counts(targets, second, weights))

    value = float(gain(np.ones((1, len(targets))))[0])
    draws = np.concatenate([gain(weights) for weights in resamples(units, seed)])
    return bounded(value, draws, len(targets), units, "difference")


def _measures(targets: Array, given: Array, logits: Array, weights: Array) -> dict[str, Array]:
    """Each measure per resample, (R,). weights: how often each row is drawn, (R, n)."""
    exact = (targets == given).all(axis=1).astype(np.float64)
    losses = -np.where(targets, log_sigmoid(logits), log_sigmoid(-logits)).mean(axis=1)
    size = weights.sum(axis=1)
    hits, of_true, of_given = _counts(targets, given, weights)
    return {
        "accuracy": weights @ exact / size,
        "f1_micro": f1_of(hits.sum(axis=1), of_true.sum(axis=1), of_given.sum(axis=1)),
        "f1_macro": macro_of(hits, of_true, of_given),
        "loss": weights @ losses / size,
    }


def _counts(targets: Array, given: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Rows of each label: rightly given, having it, given it; (R, C) each."""
    return tuple(weights @ each.astype(np.float64) for each in (targets & given, targets, given))  # type: ignore[return-value]


def _at_least(reached: Array) -> Array:
    """How many decisions reach each of THRESHOLDS, from how many of them each reaches."""
    counts = np.bincount(reached.ravel(), minlength=len(THRESHOLDS) + 1)
    return np.asarray(counts[::-1].cumsum()[::-1][1:])


def _logit(threshold: float) -> float:
    return math.log(threshold / (1 - threshold))


def f1_of(hits: Array, of_true: Array, of_given: Array) -> Array:
    """F1 from counts of any shape; 0 where nothing is true or given."""
    both = of_true + of_given
    return np.asarray(np.where(both > 0, 2 * hits / np.maximum(both, 1), 0.0))


def macro_of(hits: Array, of_true: Array, of_given: Array) -> Array:
    """Mean F1 over the labels that are true or given somewhere, (R,)."""
    present = ((of_true + of_given) > 0).sum(axis=1)
    return np.asarray(f1_of(hits, of_true, of_given).sum(axis=1) / np.maximum(present, 1))
