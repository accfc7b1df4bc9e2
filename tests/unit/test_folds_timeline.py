"""By time, every part is newer than those before it, and parts are as large as the moments allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.folds.assign import FREE, GIVEN, SEALED, assign, bins_of, part_of
from raysft.folds.strata import Strata

Array = np.ndarray[Any, Any]
NEWEST = 99  # where the sealed part stands in time
TESTS = st.sampled_from([0.0, 0.15, 0.4])


def by_time(time: Array, units: Array, k: int, test: float) -> Array:
    return assign(Strata.none(len(time)), units, np.zeros(len(time), np.uint64), k, test, time=time)


def newest(time: Array, units: Array) -> Array:
    """The time of the newest row of each row's unit."""
    return np.array([time[units == unit].max() for unit in units])


@st.composite
def histories(draw: st.DrawFn) -> tuple[Array, Array]:
    """(time, units): hours or days, alone or in units."""
    rows = draw(st.integers(1, 80))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    time = random.integers(0, draw(st.sampled_from([1, 3, 20, 10**6])), rows).astype(float)
    units = random.integers(0, max(1, rows // 3), rows) if draw(st.booleans()) else np.arange(rows)
    return time, units


@given(histories(), st.integers(0, 6), TESTS)
def test_the_newest_row_of_a_unit_is_older_than_that_of_every_unit_in_a_later_part(
    history: tuple[Array, Array], k: int, test: float
) -> None:
    time, units = history
    fold = by_time(time, units, k, test)
    place, late = np.where(fold == SEALED, NEWEST, fold), newest(time, units)
    for each in np.unique(place):
        assert late[place < each].max(initial=-np.inf) < late[place == each].min()
    assert all(len(set(fold[units == unit].tolist())) == 1 for unit in np.unique(units))


@given(histories(), st.integers(2, 6), TESTS, st.data())
def test_no_row_that_trains_is_newer_than_all_that_is_predicted(
    history: tuple[Array, Array], k: int, test: float, data: st.DataObject
) -> None:
    """For rows alone: every training row is older than every validation row, and these than every test row."""
    time, _ = history
    fold = by_time(time, np.arange(len(time)), k, test)
    validation = data.draw(st.integers(1, k - 1))
    part = np.array([part_of(each, validation, k, "time") for each in fold.tolist()])
    trained = time[part == "train"].max(initial=-np.inf)
    assert trained < time[part == "validation"].min(initial=np.inf)
    assert time[part != "test"].max(initial=-np.inf) < time[part == "test"].min(initial=np.inf)


@given(st.integers(1, 300), st.integers(0, 6), TESTS, st.integers(0, 99))
def test_parts_are_as_large_as_asked_where_times_differ(rows: int, k: int, test: float, seed: int) -> None:
    time = np.random.default_rng(seed).permutation(rows).astype(float)
    fold = by_time(time, np.arange(rows), k, test)
    bins = bins_of(k, test)
    slack = 1 if rows * bins.share.min() >= 1 else len(bins.share)  # a part is kept from being empty
    assert all(abs((fold == number).sum() - share * rows) <= slack + 1e-9 for number, share in bins.each())


@given(histories(), st.integers(0, 6), TESTS)
def test_no_part_is_empty_while_there_are_as_many_moments_as_parts(
    history: tuple[Array, Array], k: int, test: float
) -> None:
    time, units = history
    moments, parts = len(np.unique(newest(time, units))), len(bins_of(k, test).fold)
    assert len(np.unique(by_time(time, units, k, test))) == min(moments, parts)


@given(histories(), st.integers(0, 6), TESTS)
def test_the_order_of_rows_means_nothing(history: tuple[Array, Array], k: int, test: float) -> None:
    time, units = history
    assert np.array_equal(by_time(time[::-1], units[::-1], k, test), by_time(time, units, k, test)[::-1])


def test_a_day_is_never_divided_and_the_nearest_one_is_the_boundary() -> None:
    days = np.repeat([1.0, 2.0, 3.0, 4.0], [30, 20, 35, 15])
    assert by_time(days, np.arange(100), 2, 0.15).tolist() == [0] * 50 + [1] * 35 + [SEALED] * 15
    assert by_time(days, np.arange(100), 0, 0.3).tolist() == [0] * 85 + [SEALED] * 15


def test_given_rows_keep_their_part_and_need_no_time() -> None:
    time = np.array([1.0, np.nan, 2.0, 3.0])
    origin = np.array([FREE, GIVEN, FREE, FREE])
    fold = assign(Strata.none(4), np.arange(4), np.zeros(4, np.uint64), 3, 0.0, origin, time)
    assert fold.tolist() == [0, GIVEN, 1, 2]


def test_rows_without_a_time_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a time"):
        by_time(np.array([1.0, np.nan]), np.arange(2), 2, 0.0)
