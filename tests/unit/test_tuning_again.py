"""A sweep that is asked for again goes on where more is asked of it or something failed, and keeps what still holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raysft.tuning.again import asked_of, is_finished, with_what_holds
from raysft.tuning.outcome import SweepResult
from raysft.tuning.space import Space
from tests.unit.test_report_sweep import row_of, sweep_of
from tests.unit.test_tuning_space import of

SEARCH: dict[str, Any] = {"train.learning_rate": {"log": [1e-5, 1e-3]}}
LIST: dict[str, Any] = {"train.epochs": [1, 2, 3]}
OVER = "1 hours are over (tune.hours)"


def space(search: dict[str, Any] = SEARCH, **tune: Any) -> Space:
    return of(search, **tune)


def result(status: str = "done", search: dict[str, Any] = SEARCH, **tune: Any) -> SweepResult:
    return replace(sweep_of(4), status=status, asked=asked_of(space(search, **tune).tune))


@pytest.mark.parametrize(
    ("then", "now", "status", "finished"),
    [
        ({}, {}, "done", True),
        ({"trials": 5}, {"trials": 4}, "done", True),
        ({"trials": 5}, {"trials": 6}, "done", False),
        ({"trials": 19}, {"trials": None}, "done", False),  # 20
        ({"trials": 20}, {"trials": None}, "done", True),
        ({"trials": None}, {"trials": 21}, "done", False),
        ({"hours": 1.0}, {"hours": 2.0}, "done", True),  # it did not need the first hour
        ({"hours": 1.0}, {"hours": 2.0}, OVER, False),
        ({"hours": 1.0}, {"hours": None}, OVER, False),
        ({"hours": 1.0}, {"hours": 0.5}, OVER, True),
        ({"hours": 1.0}, {"hours": 1.0, "cost": 1.0, "price": 1.0}, OVER, True),
        ({"cost": 1.0, "price": 1.0}, {"cost": 2.0, "price": 1.0}, OVER, False),
        ({"cost": 1.0, "price": 2.0}, {"cost": 1.0, "price": 1.0}, OVER, False),  # buys another half an hour
        ({"cost": 1.0, "price": 1.0}, {"cost": 2.0, "price": 2.0}, OVER, True),
        ({"hours": 1.0}, {"hours": 2.0, "cost": 1.0, "price": 1.0}, OVER, True),  # which buys one
        ({"refit": True}, {"refit": False}, "done", True),
        ({"refit": False}, {"refit": True}, "done", False),
        ({"nested": True}, {"nested": False}, "done", True),
        ({"nested": False}, {"nested": True}, "done", False),
        ({"nested": True, "refit": False}, {"nested": False, "refit": True}, "done", False),
    ],
)
def test_it_goes_on_where_more_is_asked_and_not_where_less_is(
    then: dict[str, Any], now: dict[str, Any], status: str, finished: bool
) -> None:
    assert is_finished(result(status, **then), space(**now)) is finished


def test_of_a_grid_no_number_of_trials_is_more_than_every_combination() -> None:
    assert is_finished(result(search=LIST, trials=3), space(LIST, trials=50))
    assert is_finished(result(search=LIST), space(LIST, trials=50))
    assert not is_finished(result(search=LIST, trials=2), space(LIST))


def test_one_in_which_a_configuration_failed_is_not_finished() -> None:
    found = result()
    failed = row_of(5, 0.1, found.trials[0]["settings"], [], 5, found.objectives, "failed", "no memory")
    assert is_finished(found, space()) and not is_finished(replace(found, trials=[*found.trials, failed]), space())


def test_a_nested_estimate_holds_where_the_search_is_the_same() -> None:
    before = sweep_of(4)
    now = replace(before, nested=None)
    assert with_what_holds(now, before).nested == before.nested is not None
    other = replace(now, chosen={**now.chosen, "epoch": 1})
    more = replace(now, trials=sweep_of(5).trials)
    assert [with_what_holds(each, before).nested for each in (other, more)] == [None, None]
    assert with_what_holds(now, None).nested is None
    own = replace(before, nested={"metrics": {}})
    assert with_what_holds(own, before) is own
