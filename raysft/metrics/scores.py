"""Scores of a classifier from labels and logits. n rows, C classes; everything is a fraction except the loss (nats)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
NAMES = ("accuracy", "f1_macro", "f1_weighted", "loss", "ece")
ECE_BINS = 15


def log_softmax(logits: Array) -> Array:
    """Log-probabilities, shape (n, C), float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def confusion(labels: Array, predicted: Array, classes: int) -> Array:
    """Counts, shape (C, C): row = true class, column = predicted class."""
    return np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes * classes).reshape(
        classes, classes
    )


def f1_per_class(counts: Array) -> Array:
    """F1 of each class from confusion counts (..., C, C); 0 for a class that was neither true nor predicted."""
    true_positive = np.diagonal(counts, axis1=-2, axis2=-1)
    denominator = counts.sum(axis=-1) + counts.sum(axis=-2)
    f1 = np.zeros(denominator.shape)
    np.divide(2 * true_positive, denominator, out=f1, where=denominator > 0)
    return f1


def f1_macro(counts: Array) -> Array:
    """Mean F1 over the classes that are true or predicted somewhere (as scikit-learn does), from (..., C, C) counts."""
    present = (counts.sum(axis=-1) + counts.sum(axis=-2)) > 0
    return np.asarray(f1_per_class(counts).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1))


def f1_weighted(counts: Array) -> Array:
    """Mean F1 weighted by true rows, from (..., C, C) counts."""
    support = counts.sum(axis=-1)
    return np.asarray((f1_per_class(counts) * support).sum(axis=-1) / np.maximum(support.sum(axis=-1), 1))


def calibration_bins(confidence: Array) -> Array:
    """Bin number of each confidence, ECE_BINS of equal width."""
    return np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)


def ece(confidence: Array, correct: Array) -> float:
    """Expected calibration error, 15 equal-width bins of the top probability (Guo et al. 2017, arXiv 1706.04599)."""
    gaps = np.bincount(calibration_bins(confidence), weights=correct - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / max(1, len(confidence)))


@dataclass(frozen=True)
class Decided:
    """What a classifier said of n rows with one label each: all that its measures rest on."""

    labels: Array  # (n,)
    predicted: Array  # (n,)
    confidence: Array  # (n,), probability of the predicted one
    losses: Array  # (n,), nats
    classes: int

    @staticmethod
    def of(labels: Array, logits: Array) -> Decided:
        log_p = log_softmax(logits)
        own = log_p[np.arange(len(labels)), labels]
        return Decided(labels, log_p.argmax(axis=1), np.exp(log_p.max(axis=1)), -own, logits.shape[1])


def point_metrics(labels: Array, logits: Array) -> dict[str, float]:
    """All of NAMES as single numbers. labels (n,), logits (n, C)."""
    return decided_metrics(Decided.of(labels, logits))


def decided_metrics(decided: Decided) -> dict[str, float]:
    """All of NAMES as single numbers."""
    counts = confusion(decided.labels, decided.predicted, decided.classes)
    correct = (decided.predicted == decided.labels).astype(np.float64)
    return {
        "accuracy": float(correct.mean()),
        "f1_macro": float(f1_macro(counts)),
        "f1_weighted": float(f1_weighted(counts)),
        "loss": float(decided.losses.mean()),
        "ece": ece(decided.confidence, correct),
    }
