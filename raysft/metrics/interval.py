"""95% intervals by the bootstrap, over groups where rows belong together.

Rows of one customer are alike, so resampling rows would make intervals too narrow; whole groups are resampled (cluster
bootstrap, Davison and Hinkley 1997, section 3.8). Limits are bias-corrected percentiles (Efron 1987). Resampling adds
to the calibration error about as much as sampling did, so its limits are reflected (basic bootstrap, same source,
section 5.2); near zero they cover less than 95% (simulated, 225 rows: 0.95 at a true error of 0.26, 0.88 at 0.05).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from raysft.metrics.scores import (
    ECE_BINS,
    NAMES,
    Array,
    Decided,
    calibration_bins,
    confusion,
    decided_metrics,
    f1_macro,
    f1_per_class,
    f1_weighted,
)

RESAMPLES = 1000
LEVEL = 0.95
BLOCK = 50  # resamples computed together; memory is BLOCK * (rows + C * C) numbers


@dataclass(frozen=True)
class Estimate:
    """A number, its 95% interval, and the rows it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimates(labels: Array, logits: Array, units: Array, seed: int = 0) -> dict[str, Estimate]:
    """Every measure of scores.NAMES with its interval. labels (n,), logits (n, C), units (n,): a number each."""
    return decided_estimates(Decided.of(labels, logits), units, seed)


def decided_estimates(decided: Decided, units: Array, seed: int = 0) -> dict[str, Estimate]:
    """The same, from what was decided."""
    n = len(decided.labels)
    values = decided_metrics(decided)
    resampled: dict[str, list[Array]] = {name: [] for name in NAMES}
    for weights in resamples(units, seed):
        for name, found in _weighted_metrics(decided, weights).items():
            resampled[name].append(found)
    return {name: bounded(values[name], np.concatenate(resampled[name]), n, units, name) for name in NAMES}


def class_estimates(labels: Array, predicted: Array, units: Array, classes: int, seed: int = 0) -> list[Estimate]:
    """F1 of each class with its interval; n is the class's true rows."""
    values = f1_per_class(confusion(labels, predicted, classes))
    draws = np.concatenate(
        [_f1_where_present(_confusions(labels, predicted, weights, classes)) for weights in resamples(units, seed)]
    )
    support = np.bincount(labels, minlength=classes)
    return [bounded(float(values[c]), draws[:, c], int(support[c]), units[labels == c], "f1") for c in range(classes)]


def _f1_where_present(counts: Array) -> Array:
    """F1 of each class; NaN in a resample that holds the class neither as true nor as predicted."""
    present = (counts.sum(axis=-1) + counts.sum(axis=-2)) > 0
    return np.where(present, f1_per_class(counts), np.nan)


def difference(labels: Array, first: Array, second: Array, units: Array, classes: int, seed: int = 0) -> Estimate:
    """Macro-F1 of `first` minus that of `second`, predictions on the same rows, resampled together (paired)."""
    value = float(f1_macro(confusion(labels, first, classes)) - f1_macro(confusion(labels, second, classes)))
    draws = np.concatenate(
        [
            f1_macro(_confusions(labels, first, w, classes)) - f1_macro(_confusions(labels, second, w, classes))
            for w in resamples(units, seed)
        ]
    )
    return bounded(value, draws, len(labels), units, "difference")


def resamples(units: Array, seed: int) -> Iterator[Array]:
    """How often each row is drawn, shape (BLOCK, n), until RESAMPLES are drawn; whole units at a time."""
    _, unit_of_row = np.unique(units, return_inverse=True)
    count = int(unit_of_row.max()) + 1 if len(unit_of_row) else 0
    random = np.random.default_rng(seed)
    for _ in range(RESAMPLES // BLOCK):
        drawn = random.multinomial(count, np.full(count, 1 / count), size=BLOCK)
        yield drawn[:, unit_of_row].astype(np.float64)


def _weighted_metrics(decided: Decided, weights: Array) -> dict[str, Array]:
    """Each measure per resample, (R,). weights: how often each row is drawn, (R, n)."""
    correct = (decided.predicted == decided.labels).astype(np.float64)
    confidence = decided.confidence
    size = weights.sum(axis=1)
    counts = _confusions(decided.labels, decided.predicted, weights, decided.classes)
    gaps = np.stack(
        [
            (weights[:, bins] @ (correct - confidence)[bins])
            for bins in (calibration_bins(confidence) == b for b in range(ECE_BINS))
        ]
    )
    return {
        "accuracy": weights @ correct / size,
        "f1_macro": f1_macro(counts),
        "f1_weighted": f1_weighted(counts),
        "loss": weights @ decided.losses / size,
        "ece": np.abs(gaps).sum(axis=0) / size,
    }


def _confusions(labels: Array, predicted: Array, weights: Array, classes: int) -> Array:
    """Weighted confusion counts, shape (BLOCK, C, C)."""
    cell = labels.astype(np.int64) * classes + predicted
    counts = [np.bincount(cell, weights=each, minlength=classes * classes) for each in weights]
    return np.stack(counts).reshape(-1, classes, classes)


def bounded(value: float, draws: Array, n: int, units: Array, name: str) -> Estimate:
    """The value with the interval of its resampled values; `name` says which kind of measure it is."""
    draws = np.sort(draws[np.isfinite(draws)])
    if n == 0 or len(draws) == 0:
        return Estimate(value, value, value, n)
    if draws[0] == draws[-1] and name not in {"loss", "difference"}:
        return Estimate(value, *_wilson(value, len(np.unique(units))), n)
    low, high = _reflected(value, draws) if name == "ece" else _bias_corrected(value, draws)
    return Estimate(value, min(low, value), max(high, value), n)


def _bias_corrected(value: float, draws: Array) -> tuple[float, float]:
    normal, tail = NormalDist(), (1 - LEVEL) / 2
    # Ties count half; kept off 0 and 1, where the correction has no finite value.
    below = (np.sum(draws < value) + 0.5 * np.sum(draws == value)) / len(draws)
    shift = normal.inv_cdf(min(max(below, 1 / len(draws)), 1 - 1 / len(draws)))
    low, high = (normal.cdf(2 * shift + normal.inv_cdf(q)) for q in (tail, 1 - tail))
    return float(np.quantile(draws, low)), float(np.quantile(draws, high))


def _reflected(value: float, draws: Array) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = 2 * value - np.quantile(draws, 1 - tail), 2 * value - np.quantile(draws, tail)
    return max(0.0, float(low)), max(0.0, float(high))


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Limits for a share that never varies in the resamples, as all right or all wrong (Wilson 1927)."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
