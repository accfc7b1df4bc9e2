"""The cheapest configuration within one standard error of the best is taken, and it is said why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.tuning.choose import AS_CHEAP, Choice, cheapest_within_one_error, choose, front
from raysft.tuning.results import Trial, better
from tests.support.sweeps import ONE, fold, trial

BEST = {0: 0.70, 1: 0.74}  # a mean of 0.72, whose standard error is 0.02


def taken(*found: tuple[dict[int, float], tuple[int, float]], one_error: bool = True) -> Choice:
    """(folds, cost) of each configuration, from number 1."""
    trials = [trial(number, folds, cost=cost) for number, (folds, cost) in enumerate(found, start=1)]
    return choose(trials, one_error)


def near(gap: float) -> dict[int, float]:
    return {place: score - gap for place, score in BEST.items()}


def test_the_one_with_the_fewest_parameters_is_taken_within_one_error() -> None:
    found = taken((BEST, (100, 1)), (near(0.019), (50, 9)), (near(0.021), (10, 1)))
    assert (found.trial, found.best, found.runner_up) == (2, 1, 1)
    assert found.why == (
        "its mean f1_macro of 0.701 is within one standard error (0.020) of the best, 0.720 of trial 1, and it has "
        "fewer parameters"
    )
    assert taken((BEST, (100, 1)), (near(0.019), (50, 9)), one_error=False).trial == 1


def test_of_as_many_parameters_the_one_that_trains_with_fewer_operations_then_the_best() -> None:
    found = taken((BEST, (100, 9.0)), (near(0.01), (100, 5.0)), (near(0.005), (104, 5.1)))
    assert found.trial == 3 and found.why.endswith("and it takes fewer operations to train")
    assert taken((BEST, (100, 5.0 * AS_CHEAP - 0.01)), (near(0.01), (100, 5.0))).trial == 1


def test_a_reason_is_never_wrong() -> None:
    """Both have nearly the fewest parameters, the best one by a hair too many; the other takes more operations."""
    found = taken((BEST, (106, 1.0)), (near(0.01), (104, 2.0)), (near(0.015), (100, 2.2)))
    assert found.trial == 2 and found.why.endswith("and it has fewer parameters")


def test_the_best_is_taken_where_nothing_is_cheaper() -> None:
    found = taken((near(0.01), (100, 1)), (BEST, (100, 1)))
    assert (found.trial, found.best, found.runner_up) == (2, 2, 1)
    assert found.why == "its mean f1_macro of 0.720 ± 0.020 is the highest"
    assert found.ahead is not None and found.ahead.value == pytest.approx(0.01)


def test_one_that_is_alone_has_no_runner_up() -> None:
    found = taken((BEST, (100, 1)))
    assert (found.trial, found.runner_up, found.ahead, found.front) == (1, None, None, [1])


def test_where_a_fold_is_one_group_the_folds_tell_how_far_it_is_ahead() -> None:
    """Every fold has one unit, whose rows tell no error."""
    trials = [Trial(number, {}, ONE) for number in (1, 2)]
    for each, gap in zip(trials, (0.0, 0.1), strict=True):
        for place in range(3):
            each.add(place, fold(0.5 + gap * (place + 1), number=each.number, rows=1))
    found = choose(trials, one_standard_error=False)
    assert found.trial == 2 and found.ahead is not None
    assert found.ahead.value == pytest.approx(0.2) and found.ahead.error == pytest.approx(0.1 * (1 / 3 + 1 / 2) ** 0.5)
    alone = choose([each.on([0]) for each in trials], one_standard_error=False)
    assert (alone.trial, alone.runner_up, alone.ahead) == (2, 1, None)


def test_of_a_single_fold_the_error_is_that_of_its_rows() -> None:
    assert taken(({0: 0.7}, (100, 1)), ({0: 0.691}, (1, 1))).trial == 2
    assert taken(({0: 0.7}, (100, 1)), ({0: 0.689}, (1, 1))).trial == 1


def test_how_sure_it_is_that_the_runner_up_is_worse_has_the_error_of_the_folds_in_it() -> None:
    """It is better by 0, 0.1 and 0.2; by the rows of three folds the error would be 0.008."""
    found = taken(({0: 0.7, 1: 0.8, 2: 0.9}, (100, 1)), ({0: 0.7, 1: 0.7, 2: 0.7}, (100, 1)))
    assert found.ahead is not None and found.ahead.error == pytest.approx(0.1 * (1 / 3 + 1 / 2) ** 0.5)


def test_a_loss_is_chosen_where_it_is_lowest() -> None:
    by_loss = {"loss": "min"}
    trials = [
        trial(1, {0: 0.9, 1: 0.9}, {0: 0.5, 1: 0.7}, objectives=by_loss, cost=(9, 1)),
        trial(2, {0: 0.1, 1: 0.1}, {0: 0.2, 1: 0.4}, objectives=by_loss, cost=(9, 1)),
        trial(3, {0: 0.1, 1: 0.1}, {0: 0.29, 1: 0.49}, objectives=by_loss, cost=(5, 1)),
    ]
    found = choose(trials, one_standard_error=False)
    assert found.trial == 2 and found.why == "its mean loss of 0.300 ± 0.100 is the lowest"
    assert found.ahead is not None and found.ahead.value == pytest.approx(0.09)  # better, so above 0
    assert choose(trials, one_standard_error=True).trial == 3
    assert choose(trials[:2], one_standard_error=True).trial == 2


def test_the_front_is_what_nothing_beats_by_every_objective() -> None:
    trials = [
        trial(1, {0: 0.70}, {0: 0.50}),
        trial(2, {0: 0.72}, {0: 0.60}),
        trial(3, {0: 0.70}, {0: 0.55}),  # as good as the first by one, worse by the other
        trial(4, {0: 0.60}, {0: 0.40}),
        trial(5, {0: 0.60}, {0: 0.40}),  # equal to the fourth: neither beats the other
    ]
    assert choose(trials, one_standard_error=False).front == [2, 1, 4, 5]


SCORES = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=8
)


@given(SCORES)
def test_whatever_is_measured(scores: list[tuple[int, int, int, int]]) -> None:
    trials = [
        trial(number, {0: f1 / 10, 1: f1 / 10 + 0.1}, {0: loss / 10, 1: loss / 10}, cost=(parameters, flops))
        for number, (f1, loss, parameters, flops) in enumerate(scores, start=1)
    ]
    ranked = better(trials)
    best, cheapest = ranked[0], cheapest_within_one_error(ranked)
    assert best in front(ranked)
    assert best.mean("f1_macro") - cheapest.mean("f1_macro") <= best.error("f1_macro") + 1e-9
    assert cheapest.cost[0] <= AS_CHEAP * best.cost[0]
    for each in trials:
        beaten = any(
            other.mean("f1_macro") >= each.mean("f1_macro")
            and other.mean("loss") <= each.mean("loss")
            and (other.mean("f1_macro"), -other.mean("loss")) != (each.mean("f1_macro"), -each.mean("loss"))
            for other in trials
        )
        assert (each in front(ranked)) != beaten
    found = choose(trials, one_standard_error=True)
    assert found.trial == cheapest.number and found.runner_up != found.trial
    if "fewer parameters" in found.why:
        assert cheapest.cost[0] < best.cost[0]
    if "fewer operations" in found.why:
        assert cheapest.cost[1] < best.cost[1]
