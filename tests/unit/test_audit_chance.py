"""Random divisions of units: as exact as counting all of them, bounded in cost, and the same each time."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from raysft.audit.chance import BUNDLES, DRAWS, by_chance, p_value, pieces

Array = np.ndarray[Any, Any]


def gap(first: Array, second: Array) -> Array:
    """Difference of the shares of value 0."""
    shares = (each[:, 0] / each.sum(axis=1) for each in (first, second))
    return np.asarray(abs(next(shares) - next(shares)))


def test_as_counting_every_division() -> None:
    """Four units against three, of unequal sizes: all 35 divisions are counted by hand."""
    sizes, zeros = np.array([1, 2, 3, 4, 5, 6, 7]), np.array([1, 0, 3, 2, 5, 1, 0])
    units = np.repeat(np.arange(7), sizes)
    values = np.concatenate([np.r_[np.zeros(z), np.ones(s - z)] for s, z in zip(sizes, zeros, strict=True)])
    side = (units >= 4).astype(np.int64)
    every = []
    for chosen in combinations(range(7), 3):
        rest = np.setdiff1d(np.arange(7), chosen)
        every.append(abs(zeros[list(chosen)].sum() / sizes[list(chosen)].sum() - zeros[rest].sum() / sizes[rest].sum()))
    found = by_chance(values.astype(np.int64), side, units, 2, gap, seed=0)
    assert found.shape == (DRAWS,)
    assert found.mean() == pytest.approx(np.mean(every), rel=0.05)
    for least in (0.1, 0.3, 0.5):
        assert (found >= least).mean() == pytest.approx(np.mean(np.array(every) >= least), abs=0.05)
    assert np.array_equal(found, by_chance(values.astype(np.int64), side, units, 2, gap, seed=0))


def test_many_units_cost_little_and_say_the_same() -> None:
    """200,000 rows alone and as bundles: the spread is that of independent rows."""
    random = np.random.default_rng(0)
    rows = 200_000
    values, side = random.integers(0, 50, rows), np.arange(rows) % 2
    found = by_chance(values, side, np.arange(rows), 50, gap, seed=1)
    assert rows > 100 * BUNDLES
    expected = np.sqrt(2 / np.pi * 0.02 * 0.98 * 4 / rows)
    assert found.mean() == pytest.approx(expected, rel=0.15)


def test_few_units_prove_nothing() -> None:
    """One unit a side can only be divided as it is."""
    values, side = np.repeat([0, 1], 500), np.repeat([0, 1], 500)
    found = by_chance(values, side, side, 2, gap, seed=0)
    assert p_value(1.0, found) == 1.0


def test_p_values() -> None:
    chance = np.array([0.1, 0.2, 0.3])
    assert (p_value(0.4, chance), p_value(0.2, chance), p_value(0.0, chance)) == (0.25, 0.75, 1.0)


def test_a_unit_of_both_sides_is_two_pieces() -> None:
    piece, of = pieces(np.array([0, 1, 0, 1]), np.array([7, 7, 7, 9]))
    assert piece[0] == piece[2] and len(set(piece.tolist())) == 3
    assert of[piece].tolist() == [0, 1, 0, 1]
