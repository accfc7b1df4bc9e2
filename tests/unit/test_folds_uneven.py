"""Parts far from their share are named with the unit that causes it; what rounding does is not."""

from __future__ import annotations

import numpy as np

from raysft.folds.assign import SEALED, assign
from raysft.folds.strata import Strata
from raysft.folds.uneven import Uneven, largest_unit, uneven


def test_a_huge_unit_is_named_with_the_parts_that_it_makes_uneven() -> None:
    units = np.concatenate([np.full(600, 7), np.arange(1000, 1400)])
    fold = np.repeat([1, SEALED, 0], [600, 64, 336])
    found = uneven(fold, units, 2, 0.15)
    assert [(each.fold, each.rows, each.largest) for each in found] == [(SEALED, 64, 1), (1, 600, 600)]
    assert largest_unit(units) == 600


def test_an_empty_part_is_uneven_too() -> None:
    assert uneven(np.zeros(10, int), np.arange(10), 2, 0.0) == [Uneven(0, 10, 5.0, 1), Uneven(1, 0, 5.0, 0)]


def test_even_parts_and_rounding_are_not_named() -> None:
    assert uneven(np.repeat([0, 1, 2], [12, 10, 8]), np.arange(30), 3, 0.0) == []
    assert uneven(np.array([0, 0, 1, SEALED]), np.arange(4), 2, 0.15) == []


def test_what_was_assigned_without_large_units_is_even() -> None:
    random = np.random.default_rng(0)
    units = random.integers(0, 300, 1000)
    keys = random.integers(0, 2**64, 1000, dtype=np.uint64)
    fold = assign(Strata.one(random.integers(0, 5, 1000)), units, keys, 5, 0.15)
    assert uneven(fold, units, 5, 0.15) == []
