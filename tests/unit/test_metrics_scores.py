"""Scores agree with scikit-learn, with a slow count, and with arithmetic by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss

from raysft.metrics.scores import (
    ECE_BINS,
    NAMES,
    confusion,
    ece,
    f1_macro,
    f1_per_class,
    f1_weighted,
    log_softmax,
    point_metrics,
)

Array = np.ndarray[Any, Any]
PAIRS = st.integers(1, 7).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)), min_size=1, max_size=40),
    )
)


@pytest.mark.filterwarnings("ignore:A single label")
@given(PAIRS)
@example((5, [(0, 0), (0, 3)]))  # classes that are never true, never predicted, or neither
@example((3, [(1, 1)]))
@example((2, [(0, 1), (1, 0)]))
def test_counts_and_f1_are_those_of_scikit_learn(pairs: tuple[int, list[tuple[int, int]]]) -> None:
    classes, both = pairs
    true, predicted = (np.array(each) for each in zip(*both, strict=True))
    counts = confusion(true, predicted, classes)
    assert np.array_equal(counts, confusion_matrix(true, predicted, labels=range(classes)))
    each = f1_score(true, predicted, labels=range(classes), average=None, zero_division=0)
    assert np.allclose(f1_per_class(counts), each)
    assert f1_macro(counts) == pytest.approx(f1_score(true, predicted, average="macro", zero_division=0))
    assert f1_weighted(counts) == pytest.approx(f1_score(true, predicted, average="weighted", zero_division=0))


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(2, 6), st.sampled_from([0.01, 1.0, 30.0, 1000.0]))
def test_all_measures_of_random_logits_agree_with_references(seed: int, rows: int, classes: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    logits = (random.normal(size=(rows, classes)) * scale).astype(np.float32)
    labels = random.integers(0, classes, rows)
    found = point_metrics(labels, logits)
    predicted = logits.argmax(axis=1)
    assert set(found) == set(NAMES)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["f1_macro"] == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))
    probabilities = np.exp(log_softmax(logits))
    assert np.allclose(probabilities.sum(axis=1), 1)
    if scale <= 1:  # scikit-learn clips probabilities near zero
        assert found["loss"] == pytest.approx(log_loss(labels, probabilities, labels=range(classes)), rel=1e-6)
    assert found["ece"] == pytest.approx(slow_ece(probabilities.max(axis=1), predicted == labels))
    assert all(np.isfinite(value) for value in found.values())


def slow_ece(confidence: Array, correct: Array) -> float:
    """Bin by bin: the share of rows times the gap between mean confidence and accuracy."""
    total = 0.0
    for number in range(ECE_BINS):
        low, high = number / ECE_BINS, (number + 1) / ECE_BINS
        inside = [i for i, c in enumerate(confidence) if low <= c < high or (c >= 1 and number == ECE_BINS - 1)]
        if inside:
            gap = np.mean([correct[i] for i in inside]) - np.mean([confidence[i] for i in inside])
            total += len(inside) / len(confidence) * abs(gap)
    return total


def test_the_loss_by_hand() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]]))
    found = point_metrics(np.array([0, 2]), logits)
    assert found["loss"] == pytest.approx(-(np.log(0.7) + np.log(0.25)) / 2)
    assert found["accuracy"] == 0.5


def test_the_calibration_error_by_hand() -> None:
    assert ece(np.array([0.9, 0.9, 0.9, 0.9]), np.array([1.0, 1.0, 1.0, 0.0])) == pytest.approx(0.15)
    assert ece(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(0.5)
    assert ece(np.array([0.6, 0.95]), np.array([1.0, 0.0])) == pytest.approx((0.4 + 0.95) / 2)
    assert ece(np.zeros(0), np.zeros(0)) == 0


def test_logits_of_any_size_and_shift_give_the_same_finite_probabilities() -> None:
    logits = np.array([[1.0, 2.0, 3.0]])
    assert np.allclose(log_softmax(logits), log_softmax(logits + 1e4))
    huge = log_softmax(np.array([[3e38, 0.0, -3e38]], dtype=np.float32))
    assert huge[0, 0] == 0 and np.all(np.isfinite(huge))


def test_scores_of_many_count_tables_at_once_are_those_of_each() -> None:
    counts = np.random.default_rng(0).integers(0, 5, (7, 4, 4))
    for score in (f1_macro, f1_weighted):
        assert np.allclose(score(counts), [score(each) for each in counts])
    assert f1_per_class(counts).shape == (7, 4)
    assert f1_macro(np.zeros((3, 3))) == 0
