"""An interval holds its value, covers the truth as often as it says, and widens where rows belong together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.metrics.interval import Estimate, class_estimates, difference, estimates
from raysft.metrics.scores import NAMES, point_metrics

Array = np.ndarray[Any, Any]


def outcome(random: np.random.Generator, rows: int, right: float, classes: int = 2) -> tuple[Array, Array]:
    """Labels, and predictions that are right with this probability."""
    labels = random.integers(0, classes, rows)
    wrong = (labels + random.integers(1, classes, rows)) % classes
    return labels, np.where(random.random(rows) < right, labels, wrong)


def logits_of(predicted: Array, classes: int = 2, sure: float = 2.0) -> Array:
    return np.eye(classes)[predicted] * sure


@pytest.mark.parametrize(("rows", "right"), [(1, 1.0), (2, 0.5), (30, 0.0), (30, 1.0), (40, 0.6), (200, 0.95)])
def test_every_interval_holds_its_value_and_stays_in_range(rows: int, right: float) -> None:
    random = np.random.default_rng(rows)
    labels, predicted = outcome(random, rows, right, 4)
    logits = logits_of(predicted, 4) + random.normal(size=(rows, 4)) * 0.3
    found = estimates(labels, logits, np.arange(rows))
    points = point_metrics(labels, logits)
    assert list(found) == list(NAMES)
    for name, estimate in found.items():
        assert estimate.value == points[name] and estimate.n == rows
        assert estimate.low <= estimate.value <= estimate.high, name
        assert math.isfinite(estimate.high) and estimate.low >= 0
        assert estimate.high <= 1 or name == "loss"


def test_the_accuracy_interval_covers_the_truth_as_often_as_it_says() -> None:
    """160 simulations (seeds 0 to 159) of 60 rows, accuracy 0.8: the nominal 95% within sampling error."""
    hits = 0
    for seed in range(160):
        labels, predicted = outcome(np.random.default_rng(seed), 60, 0.8)
        found = estimates(labels, logits_of(predicted), np.arange(60), seed)["accuracy"]
        hits += found.low <= 0.8 <= found.high
    assert 0.90 <= hits / 160 <= 0.985


def test_an_interval_narrows_with_the_square_root_of_the_rows() -> None:
    widths = []
    for rows in (100, 400, 1600):
        labels, predicted = outcome(np.random.default_rng(1), rows, 0.8)
        found = estimates(labels, logits_of(predicted), np.arange(rows))["accuracy"]
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.25)
    assert widths[1] / widths[2] == pytest.approx(2, rel=0.25)
    assert widths[0] == pytest.approx(2 * 1.96 * math.sqrt(0.8 * 0.2 / 100), rel=0.25)


def test_rows_that_belong_together_make_intervals_wider() -> None:
    """Forty customers, ten rows each, all right or all wrong: forty facts, not four hundred."""
    random = np.random.default_rng(0)
    units = np.repeat(np.arange(40), 10)
    labels = random.integers(0, 2, 400)
    predicted = np.where(np.repeat(random.random(40) < 0.8, 10), labels, 1 - labels)
    logits = logits_of(predicted)
    apart, together = (estimates(labels, logits, each) for each in (np.arange(400), units))
    for name in ("accuracy", "f1_macro", "f1_weighted", "loss"):
        ratio = (together[name].high - together[name].low) / (apart[name].high - apart[name].low)
        assert 2 < ratio < 5, name  # the square root of ten, about
    paired = [difference(labels, predicted, np.zeros(400, int), each, 2) for each in (np.arange(400), units)]
    assert paired[1].high - paired[1].low > 1.5 * (paired[0].high - paired[0].low)


def test_the_names_of_units_do_not_matter() -> None:
    labels, predicted = outcome(np.random.default_rng(3), 60, 0.7)
    units = np.repeat(np.arange(20), 3)
    assert estimates(labels, logits_of(predicted), units) == estimates(labels, logits_of(predicted), units * 7 + 100)


def test_all_right_is_not_certainty() -> None:
    """Nothing varies in the resamples; the limits are Wilson's, for as many facts as there are units."""
    labels = np.arange(50) % 2
    found = estimates(labels, logits_of(labels), np.arange(50))
    for name in ("accuracy", "f1_macro", "f1_weighted"):
        assert (found[name].value, found[name].high) == (1, 1)
        assert found[name].low == pytest.approx(50 / (50 + 1.96**2), abs=1e-4)
    clustered = estimates(labels, logits_of(labels), np.arange(50) // 10)
    assert clustered["accuracy"].low < found["accuracy"].low


def test_all_wrong_is_not_certainty_either() -> None:
    labels = np.arange(50) % 2
    found = estimates(labels, logits_of(1 - labels), np.arange(50))
    assert (found["accuracy"].value, found["accuracy"].low) == (0, 0)
    assert 0.05 < found["accuracy"].high < 0.1


def test_the_same_seed_gives_the_same_interval_and_another_nearly_the_same() -> None:
    labels, predicted = outcome(np.random.default_rng(5), 300, 0.8, 3)
    logits = logits_of(predicted, 3)
    first, again, other = (estimates(labels, logits, np.arange(300), seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first["f1_macro"].low == pytest.approx(other["f1_macro"].low, abs=0.02)


# --- classes


def test_each_class_has_its_own_rows_and_interval() -> None:
    labels, predicted = outcome(np.random.default_rng(2), 300, 0.8, 3)
    found = class_estimates(labels, predicted, np.arange(300), 4)
    assert [estimate.n for estimate in found] == [*np.bincount(labels).tolist(), 0]
    for estimate in found[:3]:
        assert 0 < estimate.low < estimate.value < estimate.high < 1
    assert found[3] == Estimate(0.0, 0.0, 0.0, 0)


def test_a_small_class_that_is_always_right_is_not_given_zero_as_its_limit() -> None:
    """A resample that misses the class says nothing about it."""
    labels = np.array([0] * 97 + [1] * 3)
    small = class_estimates(labels, labels, np.arange(100), 2)[1]
    assert (small.value, small.high, small.n) == (1, 1, 3)
    assert small.low == pytest.approx(3 / (3 + 1.96**2), abs=1e-4)


# --- differences


@given(st.integers(0, 2**32))
def test_identical_predictions_do_not_differ(seed: int) -> None:
    labels, predicted = outcome(np.random.default_rng(seed), 40, 0.7, 3)
    assert difference(labels, predicted, predicted, np.arange(40) // 2, 3) == Estimate(0.0, 0.0, 0.0, 40)


def test_a_difference_changes_sign_with_its_sides() -> None:
    random = np.random.default_rng(0)
    labels, first = outcome(random, 200, 0.9, 3)
    second = np.where(random.random(200) < 0.5, labels, (labels + 1) % 3)
    gain, loss = (difference(labels, a, b, np.arange(200), 3) for a, b in ((first, second), (second, first)))
    assert gain.low > 0
    assert (loss.value, loss.low, loss.high) == pytest.approx((-gain.value, -gain.high, -gain.low), abs=0.02)


def test_paired_rows_make_a_small_gain_visible() -> None:
    """Two models that agree but for ten rows: each alone is uncertain by far more than the gain."""
    labels, worse = outcome(np.random.default_rng(4), 300, 0.8)
    better = worse.copy()
    better[np.flatnonzero(worse != labels)[:10]] = labels[np.flatnonzero(worse != labels)[:10]]
    gain = difference(labels, better, worse, np.arange(300), 2)
    alone = estimates(labels, logits_of(better), np.arange(300))["f1_macro"]
    assert gain.low > 0
    assert gain.high - gain.low < 0.6 * (alone.high - alone.low)


def test_an_estimate_is_printed_with_its_interval() -> None:
    assert str(Estimate(0.86149, 0.8222, 0.8955, 60)) == "0.861 [0.822, 0.895]"
