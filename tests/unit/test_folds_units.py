"""Chains join rows, nothing else does, and keys spread over bins as their shares ask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.folds.units import NO_GROUP, distance, smallest, units_of

NO_PAIRS = np.zeros((0, 2), dtype=np.int64)


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 9)), min_size=1, max_size=14), st.data())
def test_rows_share_a_unit_exactly_when_a_chain_joins_them(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    groups, texts = (np.array(column) for column in zip(*rows, strict=True))
    row = st.integers(0, len(rows) - 1)
    pairs = np.array(data.draw(st.lists(st.tuples(row, row), max_size=6)), dtype=np.int64).reshape(-1, 2)
    same_text = data.draw(st.booleans())
    units = units_of(groups, pairs, texts if same_text else None)

    joined = np.eye(len(rows), dtype=bool) | ((groups[:, None] == groups[None, :]) & (groups != NO_GROUP)[:, None])
    joined[pairs[:, 0], pairs[:, 1]] = joined[pairs[:, 1], pairs[:, 0]] = True
    if same_text:
        joined |= texts[:, None] == texts[None, :]
    for _ in rows:  # paths of any length
        joined = joined @ joined
    assert np.array_equal(units[:, None] == units[None, :], joined)


def test_units_are_numbered_by_their_first_rows() -> None:
    assert units_of(np.array([-1, 4, -1, 4, 0]), np.array([[4, 2]])).tolist() == [0, 1, 2, 1, 2]


def test_rows_without_a_group_stay_alone() -> None:
    assert units_of(np.full(3, NO_GROUP), NO_PAIRS).tolist() == [0, 1, 2]


def test_text_keys_of_64_bits_are_told_apart() -> None:
    texts = np.array([2**64 - 1, 2**64 - 2, 2**64 - 1], dtype=np.uint64)
    assert units_of(np.full(3, NO_GROUP), NO_PAIRS, texts).tolist() == [0, 1, 0]


def test_a_chain_of_many_rows_is_one_unit() -> None:
    rows = 100_000
    pairs = np.stack([np.arange(rows - 1), np.arange(1, rows)], axis=1)
    assert units_of(np.full(rows, NO_GROUP), pairs[::-1]).max() == 0


def test_no_rows_are_no_units() -> None:
    assert units_of(np.zeros(0, np.int64), NO_PAIRS).shape == (0,)


def test_the_smallest_value_of_each_unit() -> None:
    values = np.array([5, 2**64 - 1, 3, 9], dtype=np.uint64)
    assert smallest(values, np.array([0, 2, 0, 1]), 3).tolist() == [3, 9, 2**64 - 1]


@pytest.mark.parametrize("keys", [np.arange(20_000), np.arange(20_000) << 40], ids=["small", "large"])
def test_a_bin_is_the_nearest_of_as_many_keys_as_its_share_asks(keys: np.ndarray[Any, Any]) -> None:
    shares = [0.15, 0.05, 0.5, 0.3]
    away = np.stack([distance(keys.astype(np.uint64), fold - 1, share) for fold, share in enumerate(shares)])
    nearest = np.bincount(away.argmin(axis=0)) / len(keys)
    assert np.abs(nearest - shares).max() < 0.012  # 3.4 standard errors of the largest
