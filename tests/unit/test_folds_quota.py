"""Rounded tables: every number up or down, every sum as asked, and what is placed already counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raysft.folds.quota import remaining, whole

Array = np.ndarray[Any, Any]


def no_duty(labels: int) -> Array:
    return np.ones(labels, dtype=bool)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """(wanted, shares, liking): rows of labels times shares."""
    labels, bins = draw(st.integers(1, 60)), draw(st.integers(1, 8))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shares = random.dirichlet(np.full(bins, draw(st.sampled_from([1.0, 20.0]))))
    rows = random.integers(0, draw(st.integers(1, 40)), labels)
    return rows[:, None] * shares, shares, random.random((labels, bins)) * 3


@given(tables())
def test_every_number_is_rounded_up_or_down_and_every_row_keeps_its_sum(table: tuple[Array, Array, Array]) -> None:
    wanted, _, liking = table
    found = whole(wanted, wanted.sum(axis=0), liking, np.ones(wanted.shape[1], bool), no_duty(len(wanted)))
    assert np.abs(found - wanted).max() < 1
    assert np.array_equal(found.sum(axis=1), np.rint(wanted.sum(axis=1)))


@given(tables())
def test_the_errors_of_many_labels_do_not_pile_up_in_a_bin(table: tuple[Array, Array, Array]) -> None:
    wanted, _, liking = table
    found = whole(wanted, wanted.sum(axis=0), liking, np.ones(wanted.shape[1], bool), no_duty(len(wanted)))
    assert np.abs(found.sum(axis=0) - wanted.sum(axis=0)).max() <= 2


@given(tables(), st.integers(0, 99))
def test_every_label_that_must_train_does(table: tuple[Array, Array, Array], seed: int) -> None:
    wanted, _, liking = table
    random = np.random.default_rng(seed)
    trains = random.random(wanted.shape[1]) < 0.6
    trains[0] = True
    trained = random.random(len(wanted)) < 0.5
    found = whole(wanted, wanted.sum(axis=0), liking, trains, trained)
    duty = ~trained & (wanted.sum(axis=1) > 0)
    assert (found[duty][:, trains].sum(axis=1) > 0).all()
    assert np.abs(found - wanted).max() < 1


def test_ups_go_where_they_are_liked() -> None:
    wanted = np.array([[0.5, 0.5], [0.5, 0.5]])
    liking = np.array([[0.9, 0.1], [0.2, 0.3]])
    assert whole(wanted, wanted.sum(axis=0), liking, np.ones(2, bool), no_duty(2)).tolist() == [[1, 0], [0, 1]]


def test_a_sum_is_met_where_liking_asks_too_much_of_one_bin() -> None:
    wanted = np.full((10, 2), 0.5)
    liking = np.stack([np.linspace(1, 2, 10), np.zeros(10)], axis=1)
    found = whole(wanted, wanted.sum(axis=0), liking, np.ones(2, bool), no_duty(10))
    assert found[:, 0].tolist() == [0] * 5 + [1] * 5  # the five that like it most


def test_numbers_that_are_whole_but_for_their_last_digits_stay() -> None:
    wanted = np.array([[3 + 1e-12, 17 - 1e-12]])
    assert whole(wanted, wanted[0], np.array([[9.0, 0.0]]), np.ones(2, bool), no_duty(1)).tolist() == [[3, 17]]


@given(st.integers(0, 10**6), st.integers(1, 7))
def test_what_remains_adds_up_and_lies_below_what_is_missing(seed: int, bins: int) -> None:
    random = np.random.default_rng(seed)
    held, rows = random.integers(0, 9, (5, bins)), random.integers(0, 30, 5)
    wanted = (held.sum(axis=1) + rows)[:, None] * random.dirichlet(np.ones(bins))
    found = remaining(wanted, held, rows)
    assert np.allclose(found.sum(axis=1), rows)
    assert (found >= 0).all()
    assert (found <= np.maximum(wanted - held, 0) + 1e-9).all()


def test_a_bin_that_holds_too_much_takes_equally_from_the_others() -> None:
    assert remaining(np.array([[4.0, 4.0, 4.0]]), np.array([[6, 0, 0]]), np.array([6])).tolist() == [[0, 3, 3]]
