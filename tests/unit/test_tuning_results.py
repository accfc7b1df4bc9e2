"""Configurations are compared on the folds that both have done, row by row, each after an epoch of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.metrics.scores import Array
from raysft.tuning.results import (
    Difference,
    Trial,
    better,
    between_epochs,
    cautious,
    difference,
    oriented,
    variance_of,
    with_most_in_common,
    worth,
)
from tests.support.sweeps import DIFFERS, ONE, TWO, UNITS, fold, trial

SCORES = st.floats(0, 1)


def test_one_epoch_is_taken_for_all_folds_the_best_by_their_mean() -> None:
    """The best epoch of each fold alone would be the first of one and the third of the other."""
    found = trial(1, {0: [0.9, 0.8, 0.2], 1: [0.1, 0.5, 0.6]})
    assert found.epoch == 2
    assert found.mean("f1_macro") == pytest.approx(0.65) and found.value("f1_macro", 1) == 0.5
    assert found.curve("f1_macro") == pytest.approx([0.5, 0.65, 0.4])


def test_in_whatever_order_folds_are_done_the_numbers_are_the_same_to_the_bit() -> None:
    """As those of a search that was interrupted."""
    values = {0: [1.3864275646869813], 1: [1.3901386636214206], 2: [1.386693340414659]}
    found = set()
    for order in itertools.permutations(values):
        whole, one = trial(1, values), trial(1, {})
        for each in order:
            one.add(each, whole.folds[each])
        found.add((one.mean("f1_macro"), one.error("f1_macro"), tuple(one.folds)))
    assert len(found) == 1


def test_of_equal_epochs_the_last_is_taken_whatever_the_loss() -> None:
    assert trial(1, {0: [0.5, 0.7, 0.7, 0.7]}, {0: [1, 0.5, 0.6, 0.7]}).epoch == 4
    assert trial(1, {0: [0.5, 0.7, 0.7, 0.6]}).epoch == 3


@pytest.mark.parametrize(("gain", "epoch"), [(0.0199, 3), (0.0201, 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_last_epoch_counts_unless_another_is_better_by_a_standard_error(gain: float, epoch: int, sign: int) -> None:
    """Four folds, each with an error of 0.04 of the difference of two epochs; in the mean 0.02."""
    scores = {place: [0.1, 0.7 + gain, 0.7] for place in range(4)}
    losses = {place: [0.9, 0.3 - gain, 0.3] for place in range(4)}
    found = Trial(1, {}, ONE if sign == 1 else {"loss": "min"})
    for place in scores:
        found.add(place, fold(scores[place], losses[place], error=0.0))
        for at in range(3):
            found.folds[place].influence["f1_macro"][at, at] = 0.04 / DIFFERS
    assert found.epoch == epoch


def test_two_epochs_are_compared_row_by_row_over_the_folds() -> None:
    found = trial(1, {0: [0.5, 0.7], 1: [0.6, 0.9]}, error=0.0)
    for each in found.folds.values():
        each.influence["f1_macro"][0, 3] = 0.1
    gap = between_epochs(found, "f1_macro", 2, 1)
    assert gap.value == pytest.approx(0.25) and gap.folds == 2
    assert gap.error == pytest.approx(math.sqrt(2 * 0.1**2 * UNITS / (UNITS - 1)) / 2)
    assert between_epochs(found, "f1_macro", 2, 2).error == 0.0


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


def test_the_error_of_a_mean_is_that_of_the_folds_and_of_one_that_of_its_rows() -> None:
    found = trial(1, {0: 0.6, 1: 0.7, 2: 0.8})
    assert found.error("f1_macro") == pytest.approx(0.1 / math.sqrt(3))
    one = trial(1, {0: 0.6}, error=0.03)
    one.folds[0].influence["f1_macro"][0, 9] = 0.04
    assert one.error("f1_macro") == pytest.approx(0.05)
    one.folds[0].scores[0]["prediction_ms"] = 9.0
    assert one.error("prediction_ms") == 0.0  # no matter of rows


def test_a_cautious_difference_is_the_less_certain_one_from_three_folds_on() -> None:
    def found(*gaps: float) -> Difference:
        rows = enumerate(gaps)
        return difference(
            trial(1, {place: 0.5 + gap for place, gap in rows}), trial(2, dict.fromkeys(range(len(gaps)), 0.5)), "loss"
        )

    wide, narrow = found(0.0, 0.1, 0.2), found(0.1, 0.1, 0.1)
    wider = cautious(wide)
    assert (
        wider is not None and wider.error == pytest.approx(0.1 * math.sqrt(1 / 3 + 1 / 2)) and wider.value == wide.value
    )
    assert narrow.error == pytest.approx(0.01 * DIFFERS / math.sqrt(3)) and cautious(narrow) == narrow
    assert cautious(found(0.0, 0.2)) == found(0.0, 0.2)


def test_where_rows_tell_no_error_the_folds_do_and_of_one_fold_none_is_known() -> None:
    """Each fold is a single group: leave one group out."""
    unknown = Difference(0.2, math.inf, 2, (0.1, 0.3))
    found = cautious(unknown)
    assert found is not None and found.error == pytest.approx(0.1 * math.sqrt(3)) and found.value == 0.2
    assert found.interval() == pytest.approx((0.2 - 2.2008, 0.2 + 2.2008), abs=1e-3)  # a table of Student's t
    assert found.p == pytest.approx(1 - 2 * math.atan(2 / math.sqrt(3)) / math.pi)  # Cauchy's distribution
    assert cautious(replace(unknown, folds=1, gaps=(0.2,))) is None
    assert cautious(replace(unknown, gaps=(0.2, 0.2))) is None  # two folds that happen to say the same


def gaps_by_chance(folds: int) -> Array:
    """Of 2,000 pairs of equal configurations, with the correlation of folds that Nadeau and Bengio assume: the share of
    all rows that one fold has."""
    chance, shared = np.random.default_rng(0), 1 / folds
    own = chance.normal(size=(2000, folds)) * (1 - shared) ** 0.5
    return np.asarray(chance.normal(size=(2000, 1)) * shared**0.5 + own)


def test_of_equal_configurations_few_are_taken_for_better_where_folds_alone_tell() -> None:
    for count in (2, 3, 6):
        gaps = gaps_by_chance(count)
        found = [cautious(Difference(float(each.mean()), math.inf, count, tuple(each))) for each in gaps]
        sure = [each is not None and each.interval()[0] > 0 for each in found]
        assert np.mean(sure) == pytest.approx(0.025, abs=0.01)


def test_of_equal_configurations_few_are_taken_for_better_where_folds_differ_more_than_their_rows() -> None:
    """An error of the rows a tenth of what the folds differ by, as where the training set decides."""
    for count in (3, 5, 10):
        gaps = gaps_by_chance(count)
        found = [cautious(Difference(float(each.mean()), 0.1 / count**0.5, count, tuple(each))) for each in gaps]
        sure = [each is not None and each.interval()[0] > 0 for each in found]
        assert np.mean(sure) == pytest.approx(0.025, abs=0.01)


def test_configurations_without_a_common_fold_cannot_be_compared() -> None:
    with pytest.raises(AssertionError, match="trials 1 and 2 have no fold in common"):
        difference(trial(1, {0: 0.7}), trial(2, {1: 0.7}), "f1_macro")


def test_a_configuration_with_easy_folds_is_worth_what_it_is_beside_its_rival() -> None:
    """Fold 0 is easy for all: 0.1 behind there is 0.1 behind altogether."""
    rival, other = trial(1, {0: 0.9, 1: 0.5, 2: 0.4}), trial(2, {0: 0.8})
    assert worth(other, rival, "f1_macro") == pytest.approx(0.5)
    assert worth(rival, rival, "f1_macro") == worth(rival, None, "f1_macro") == rival.mean("f1_macro")
    assert worth(trial(3, {5: 0.8}), rival, "f1_macro") == 0.8


@pytest.mark.parametrize(
    ("folds", "numbers", "common"),
    [
        ([{0, 1}, {1, 2}], [1, 2], {1}),
        ([{0, 1, 2}, {0, 1}, {0, 1}, {2}], [1, 2, 3], {0, 1}),
        ([{0, 1}, {0, 1}, {1, 2}, {1, 2}, {0, 1}], [1, 2, 5], {0, 1}),
        ([{0, 1}, {2}], [1], {0, 1}),
        ([{0}], [1], {0}),
        ([], [], set()),
    ],
)
def test_configurations_are_compared_on_the_folds_that_most_of_them_share(
    folds: list[set[int]], numbers: list[int], common: set[int]
) -> None:
    found = with_most_in_common([trial(number, dict.fromkeys(each, 0.5)) for number, each in enumerate(folds, 1)])
    assert [each.number for each in found] == numbers
    assert all(each.folds.keys() == common for each in found)


def test_many_configurations_are_looked_at_once_for_each_set_of_folds_that_some_share() -> None:
    class Counted(list[Trial]):
        looks = 0

        def __iter__(self) -> Iterator[Trial]:
            Counted.looks += 1
            return super().__iter__()

    with_most_in_common(Counted(trial(number, {0: 0.5, number % 3: 0.5}) for number in range(1, 40)))
    assert Counted.looks < 10


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
    assert found.error == pytest.approx(0.05 * math.sqrt(UNITS / (UNITS - 1)) / math.sqrt(2))  # the mean of two folds


def test_a_difference_takes_each_configuration_after_its_own_epoch() -> None:
    first, second = trial(1, {0: [0.7, 0.1]}), trial(2, {0: [0.2, 0.4]})
    assert difference(first, second, "f1_macro").value == pytest.approx(0.3)
    first.folds[0].influence["f1_macro"][0, 5] = 0.3  # of the first epoch
    second.folds[0].influence["f1_macro"][0, 6] = 0.4  # of an epoch that is not asked for
    assert difference(first, second, "f1_macro").error == pytest.approx(
        math.sqrt((0.3**2 + 2 * 0.01**2) * UNITS / (UNITS - 1))
    )


def test_what_two_have_in_common_is_no_part_of_the_error() -> None:
    """Both err on the same unit by the same amount: their difference is certain."""
    assert difference(trial(3, {0: 0.7}), trial(3, {0: 0.6}), "f1_macro").error == 0.0


def test_a_variance_is_that_of_a_sample_and_a_single_unit_tells_none() -> None:
    assert variance_of(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.0
    assert variance_of(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0])) == (1 + 4 + 4) * 3 / 2
    assert variance_of(np.array([1.0]), np.array([1.0])) == math.inf


def test_certainty_is_in_standard_errors() -> None:
    found = Difference(0.02, 0.01, 1)
    assert found.z == 2.0 and found.p == pytest.approx(0.0455, abs=1e-4)
    assert found.interval() == pytest.approx((0.0004, 0.0396), abs=1e-6)
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
    assert there.error == pytest.approx(math.sqrt(own * UNITS / (UNITS - 1)) / len(scores))
