"""Scores of label sets agree with scikit-learn, and their intervals with resampling done slowly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss

from raysft.metrics.label_sets import (
    NAMES,
    THRESHOLDS,
    best_threshold,
    given_labels,
    label_estimates,
    label_set_difference,
    label_set_estimates,
    log_sigmoid,
    point_metrics,
)

Array = np.ndarray[Any, Any]


def drawn(seed: int, rows: int, classes: int, share: float = 0.3) -> tuple[Array, Array]:
    """Targets, and logits that know something of them."""
    random = np.random.default_rng(seed)
    targets = random.random((rows, classes)) < share
    return targets, (random.normal(size=targets.shape) * 2 + targets * 2 - 1).astype(np.float32)


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 6), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_scores_are_those_of_scikit_learn(seed: int, rows: int, classes: int, share: float) -> None:
    targets, logits = drawn(seed, rows, classes, share)
    found, predicted = point_metrics(targets, logits, 0.4), 1 / (1 + np.exp(-logits)) >= 0.4
    assert tuple(found) == NAMES
    assert found["accuracy"] == pytest.approx(
        accuracy_score(targets, predicted) if classes > 1 else np.mean(targets == predicted)
    )
    assert found["f1_micro"] == pytest.approx(f1_score(targets.ravel(), predicted.ravel(), zero_division=0))
    present = np.flatnonzero(targets.any(axis=0) | predicted.any(axis=0))
    each = [f1_score(targets[:, c], predicted[:, c], zero_division=0) for c in present]
    assert found["f1_macro"] == pytest.approx(np.mean(each) if each else 0)
    probability = np.exp(log_sigmoid(logits))
    expected = np.mean([log_loss(targets[:, c], probability[:, c], labels=[False, True]) for c in range(classes)])
    assert found["loss"] == pytest.approx(expected, rel=1e-6)


def test_macro_and_micro_f1_are_the_multi_label_ones_of_scikit_learn() -> None:
    targets, logits = drawn(1, 200, 5)
    found, predicted = point_metrics(targets, logits, 0.5), logits >= 0
    for average in ("micro", "macro"):
        assert found[f"f1_{average}"] == pytest.approx(f1_score(targets, predicted, average=average, zero_division=0))


def test_rows_without_labels_and_without_predictions_count_as_right() -> None:
    found = point_metrics(np.zeros((2, 3), bool), np.full((2, 3), -9.0), 0.5)
    assert (found["accuracy"], found["f1_micro"], found["f1_macro"]) == (1, 0, 0)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.floats(0.02, 0.9))
def test_the_best_threshold_is_the_best_of_all(seed: int, share: float) -> None:
    targets, logits = drawn(seed, 30, 3, share)
    f1 = {t: point_metrics(targets, logits, t)["f1_micro"] for t in THRESHOLDS}
    found = best_threshold(targets, logits)
    assert f1[found] == max(f1.values())
    assert all(abs(found - 0.5) <= abs(t - 0.5) for t in THRESHOLDS if f1[t] == f1[found])


def test_where_every_threshold_is_as_good_it_is_a_half() -> None:
    assert best_threshold(np.array([[True, False]]), np.array([[99.0, -99.0]])) == 0.5
    assert best_threshold(np.zeros((2, 2), bool), np.zeros((2, 2))) == 0.5


def test_huge_logits_give_finite_losses() -> None:
    logits = np.array([[3e38, -3e38]], np.float32)
    assert np.isfinite(point_metrics(np.array([[False, True]]), logits, 0.5)["loss"])
    assert given_labels(logits, 0.99).tolist() == [[True, False]]


# --- intervals


def slow_draws(targets: Array, logits: Array, units: Array, name: str) -> Array:
    """Draw whole units and score the drawn rows as if they were a corpus of their own."""
    random, found = np.random.default_rng(5), []
    numbers = np.unique(units)
    for _ in range(600):
        rows = np.concatenate([np.flatnonzero(units == unit) for unit in random.choice(numbers, len(numbers))])
        found.append(point_metrics(targets[rows], logits[rows], 0.5)[name])
    return np.array(found)


@pytest.mark.parametrize("name", NAMES)
def test_intervals_are_those_of_rows_drawn_one_by_one(name: str) -> None:
    """The width against the spread of resampled corpora; 600 and 1000 draws differ by some percent."""
    targets, logits = drawn(2, 120, 4)
    units = np.arange(120) // 3
    found = label_set_estimates(targets, logits, 0.5, units)[name]
    low, high = np.quantile(slow_draws(targets, logits, units, name), [0.025, 0.975])
    assert found.high - found.low == pytest.approx(high - low, rel=0.15)
    assert found.low <= found.value <= found.high and found.n == 120


def test_each_label_has_its_own_rows_and_interval() -> None:
    targets, logits = drawn(3, 200, 3)
    targets[:, 2], predicted = False, logits >= 0
    predicted[:, 2] = False
    found = label_estimates(targets, predicted, np.arange(200))
    assert [each.n for each in found] == targets.sum(axis=0).tolist()
    for c in (0, 1):
        assert found[c].value == pytest.approx(f1_score(targets[:, c], predicted[:, c]))
        assert 0 < found[c].low < found[c].value < found[c].high < 1
    assert (found[2].value, found[2].n) == (0, 0)


def test_a_difference_is_paired_and_changes_sign_with_its_sides() -> None:
    targets, logits = drawn(4, 150, 4)
    good, bad = targets ^ (np.random.default_rng(0).random(targets.shape) < 0.1), logits >= 0
    gain, loss = (label_set_difference(targets, *pair, np.arange(150)) for pair in ((good, bad), (bad, good)))
    assert gain.low > 0
    assert (loss.value, loss.low, loss.high) == pytest.approx((-gain.value, -gain.high, -gain.low), abs=0.02)
    same = label_set_difference(targets, good, good, np.arange(150))
    assert (same.value, same.low, same.high) == (0, 0, 0)
