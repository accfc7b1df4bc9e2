"""Influences are derivatives, and give the errors that resampling gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysft.metrics import influence
from raysft.metrics.interval import _confusions, resamples
from raysft.metrics.scores import Array, confusion, f1_macro


def macro(labels: Array, predicted: Array, weights: Array, classes: int) -> float:
    return float(f1_macro(_confusions(labels, predicted, weights[None], classes))[0])


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 60), st.integers(2, 12), st.integers(0, 10**6))
def test_the_influence_on_macro_f1_is_what_it_loses_without_the_row(n: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    predicted = np.where(random.random(n) < 0.6, labels, random.integers(0, classes, n))
    found = influence.of_f1_macro(labels, predicted, classes)
    whole = macro(labels, predicted, np.ones(n), classes)
    lost = np.array([whole - macro(labels, predicted, 1.0 - np.eye(n)[row], classes) for row in range(n)])
    assert found == pytest.approx(lost - lost.mean(), abs=1e-9)


@pytest.mark.parametrize("rows", [1, 3, 20])
def test_the_error_is_what_other_rows_would_give_even_where_a_class_has_one(rows: int) -> None:
    """Two models alike on 40 classes: how their difference varies over draws of rows, and what one draw says of it."""
    random, classes, errors, gaps = np.random.default_rng(rows), 40, [], []
    labels = np.repeat(np.arange(classes), rows)

    def model(hard: Array) -> Array:
        own = np.where(random.random(len(labels)) < 0.85, hard, random.random(len(labels)))
        return np.where(own < 0.7, labels, (labels + random.integers(1, classes, len(labels))) % classes)

    for _ in range(200):
        hard = random.random(len(labels))
        first, second = model(hard), model(hard)
        moved = [influence.of_f1_macro(labels, each, classes) for each in (first, second)]
        errors.append(float(np.sqrt(((moved[0] - moved[1]) ** 2).sum())))
        gaps.append(f1_macro(confusion(labels, first, classes)) - f1_macro(confusion(labels, second, classes)))
    assert 0.85 < np.mean(errors) / np.std(gaps) < 1.6  # never too small; too large where a class has few rows


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
