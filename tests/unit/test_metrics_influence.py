"""Influences are derivatives, and give the errors that resampling gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysft.metrics import influence
from raysft.metrics.interval import _confusions, resamples
from raysft.metrics.scores import Array, f1_macro

STEP = 1e-6


def macro(labels: Array, predicted: Array, weights: Array, classes: int) -> float:
    return float(f1_macro(_confusions(labels, predicted, weights[None], classes))[0])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 10**6))
def test_the_influence_on_macro_f1_is_its_derivative_by_the_weight_of_a_row(n: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    predicted = np.where(random.random(n) < 0.6, labels, random.integers(0, classes, n))
    found = influence.of_f1_macro(labels, predicted, classes)
    for row in range(n):
        more, less = np.ones(n), np.ones(n)
        more[row] += STEP
        less[row] -= STEP
        slope = (macro(labels, predicted, more, classes) - macro(labels, predicted, less, classes)) / (2 * STEP)
        assert found[row] == pytest.approx(slope, abs=1e-5)
    assert found.sum() == pytest.approx(0, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 10**6))
def test_counts_of_one_label_a_row_give_the_same(n: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels, predicted = random.integers(0, classes, (2, n))
    true, given_ = np.eye(classes)[labels], np.eye(classes)[predicted]
    assert influence.of_f1_macro_counts(true * given_, true, given_) == pytest.approx(
        influence.of_f1_macro(labels, predicted, classes)
    )
    correct = influence.of_mean(labels == predicted)  # micro-F1 of one label a row is accuracy
    assert influence.of_f1_micro_counts(true * given_, true, given_) == pytest.approx(correct)


def test_the_standard_error_is_that_of_resampling() -> None:
    random = np.random.default_rng(5)
    n, classes = 600, 6
    labels = random.integers(0, classes, n)
    predicted = np.where(random.random(n) < 0.75, labels, random.integers(0, classes, n))
    error = float(np.sqrt((influence.of_f1_macro(labels, predicted, classes) ** 2).sum()))
    draws = np.concatenate([f1_macro(_confusions(labels, predicted, w, classes)) for w in resamples(np.arange(n), 0)])
    assert error == pytest.approx(float(draws.std()), rel=0.1)


def test_the_error_of_a_paired_difference_is_that_of_the_difference_of_influences() -> None:
    random = np.random.default_rng(6)
    n, classes = 800, 5
    labels = random.integers(0, classes, n)
    first = np.where(random.random(n) < 0.8, labels, random.integers(0, classes, n))
    second = np.where(random.random(n) < 0.1, random.integers(0, classes, n), first)  # alike, so that pairing matters
    paired = influence.of_f1_macro(labels, first, classes) - influence.of_f1_macro(labels, second, classes)
    draws = [
        f1_macro(_confusions(labels, first, w, classes)) - f1_macro(_confusions(labels, second, w, classes))
        for w in resamples(np.arange(n), 0)
    ]
    assert float(np.sqrt((paired**2).sum())) == pytest.approx(float(np.concatenate(draws).std()), rel=0.1)


def test_a_ratio_without_anything_below_it_moves_nothing() -> None:
    assert influence.of_ratio(np.zeros(3), np.zeros(3)).tolist() == [0, 0, 0]


def test_of_a_mean_over_tokens_a_long_row_counts_by_its_tokens() -> None:
    sums, tokens = np.array([2.0, 30.0]), np.array([1.0, 10.0])
    assert influence.of_ratio(sums, tokens) == pytest.approx((sums - 32 / 11 * tokens) / 11)
