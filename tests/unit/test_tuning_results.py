"""Configurations are compared on the folds that both have done, row by row, each after its own best epoch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.metrics.scores import Array
from raysft.tuning.results import Difference, Trial, better, difference, oriented, variance_of
from tests.support.sweeps import ONE, TWO, fold, trial

SCORES = st.floats(0, 1)


def test_one_epoch_is_taken_for_all_folds_the_best_by_their_mean() -> None:
    """The best epoch of each fold alone would be the first of one and the third of the other."""
    found = trial(1, {0: [0.9, 0.8, 0.2], 1: [0.1, 0.5, 0.6]})
    assert found.epoch == 2
    assert found.mean("f1_macro") == pytest.approx(0.65) and found.value("f1_macro", 1) == 0.5
    assert found.curve("f1_macro") == pytest.approx([0.5, 0.65, 0.4])


def test_of_equal_epochs_the_one_with_the_lower_loss_is_taken_then_the_earlier() -> None:
    assert trial(1, {0: [0.5, 0.7, 0.7, 0.7]}, {0: [1, 0.6, 0.5, 0.5]}).epoch == 3


def test_a_loss_is_best_where_it_is_lowest() -> None:
    assert trial(1, {0: [0.9, 0.5, 0.1]}, {0: [0.3, 0.2, 0.4]}, objectives={"loss": "min"}).epoch == 2


def test_folds_that_ended_early_are_compared_over_the_epochs_that_all_have() -> None:
    found = trial(1, {0: [0.1, 0.2, 0.9], 1: [0.3, 0.4]})
    assert found.epoch == 2 and len(found.curve("loss")) == 2


def test_another_fold_may_change_the_epoch() -> None:
    found = trial(1, {0: [0.6, 0.5]})
    assert found.epoch == 1
    found.add(1, fold([0.1, 0.9]))
    assert found.epoch == 2


def test_the_error_of_a_mean_is_that_of_the_folds_and_none_is_known_of_one() -> None:
    found = trial(1, {0: 0.6, 1: 0.7, 2: 0.8})
    assert found.error("f1_macro") == pytest.approx(0.1 / math.sqrt(3))
    assert trial(1, {0: 0.6}).error("f1_macro") == 0.0


def test_cost_is_that_of_parameters_and_of_training_a_fold() -> None:
    found = Trial(1, {}, TWO)
    found.add(0, fold(0.5, parameters=7, flops=2.0, seconds=1.0))
    found.add(1, fold(0.5, parameters=7, flops=4.0, seconds=3.0))
    assert found.cost == (7, 3.0) and found.seconds == 2.0


def test_a_difference_is_taken_on_the_folds_of_both() -> None:
    first = trial(1, {0: 0.7, 1: 0.8, 2: 0.1}, error=0.03)
    second = trial(2, {0: 0.6, 1: 0.6, 3: 0.9}, error=0.04)
    found = difference(first, second, "f1_macro")
    assert found.value == pytest.approx(0.15) and found.folds == 2
    assert found.error == pytest.approx(0.05 / math.sqrt(2))  # the mean of two folds, of an error of 0.05 each


def test_a_difference_takes_each_configuration_after_its_own_epoch() -> None:
    first, second = trial(1, {0: [0.7, 0.1]}), trial(2, {0: [0.2, 0.4]})
    assert difference(first, second, "f1_macro").value == pytest.approx(0.3)
    first.folds[0].influence["f1_macro"][0, 5] = 0.3  # of the first epoch
    second.folds[0].influence["f1_macro"][0, 6] = 0.4  # of an epoch that is not asked for
    assert difference(first, second, "f1_macro").error == pytest.approx(math.sqrt(0.3**2 + 2 * 0.01**2))


def test_what_two_have_in_common_is_no_part_of_the_error() -> None:
    """Both err on the same unit by the same amount: their difference is certain."""
    assert difference(trial(3, {0: 0.7}), trial(3, {0: 0.6}), "f1_macro").error == 0.0


def test_units_that_are_not_the_same_are_not_paired() -> None:
    assert variance_of(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.0
    assert variance_of(np.array([1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == 5.0 + 14.0


def test_certainty_is_in_standard_errors() -> None:
    found = Difference(0.02, 0.01, 1)
    assert found.z == 2.0 and found.p == pytest.approx(0.0455, abs=1e-4)
    assert found.interval() == pytest.approx((0.0004, 0.0396))
    assert Difference(-0.02, 0.0, 1).z == -math.inf and Difference(-0.02, 0.0, 1).p == 0.0
    assert Difference(0.0, 0.0, 1).z == 0.0 and Difference(0.0, 0.0, 1).p == 1.0


def test_oriented_a_lower_loss_is_a_gain() -> None:
    found = Difference(-0.2, 0.1, 3)
    assert oriented(found, "min") == Difference(0.2, 0.1, 3) and oriented(found, "max") is found


def test_from_the_best_down_others_decide_between_equals_then_the_number() -> None:
    trials = [
        trial(4, {0: 0.7}, {0: 0.5}),
        trial(3, {0: 0.7}, {0: 0.4}),
        trial(2, {0: 0.7}, {0: 0.5}),
        trial(1, {0: 0.6}, {0: 0.1}),
    ]
    assert [each.number for each in better(trials)] == [3, 2, 4, 1]
    by_loss = [replace(each, objectives={"loss": "min"}) for each in trials]
    assert [each.number for each in better(by_loss)] == [1, 3, 2, 4]
    assert better([]) == []


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=5), st.integers(0, 10**6))
def test_who_is_compared_with_whom_changes_only_the_sign(scores: list[tuple[float, float]], seed: int) -> None:
    chance = np.random.default_rng(seed)
    one = trial(1, {place: each[0] for place, each in enumerate(scores)}, objectives=ONE)
    other = trial(2, {place: each[1] for place, each in enumerate(scores)}, objectives=ONE)
    for each in (*one.folds.values(), *other.folds.values()):
        each.influence["f1_macro"][:] = chance.standard_normal(each.influence["f1_macro"].shape) / 100
    there, back = difference(one, other, "f1_macro"), difference(other, one, "f1_macro")
    assert there.value == pytest.approx(-back.value) and there.error == pytest.approx(back.error)
    assert there.value == pytest.approx(one.mean("f1_macro") - other.mean("f1_macro"))

    def sums(of: Trial) -> list[Array]:
        return [each.influence["f1_macro"][0] for each in of.folds.values()]

    own = sum(((a - b) ** 2).sum() for a, b in zip(sums(one), sums(other), strict=True))
    assert there.error == pytest.approx(math.sqrt(own) / len(scores))
