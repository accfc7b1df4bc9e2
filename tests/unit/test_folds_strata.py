"""Labels of rows as flat arrays say the same as lists of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raysft.folds.strata import Strata

LISTS = st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=12)


def as_lists(strata: Strata) -> list[list[int]]:
    return [strata.ids[a:b].tolist() for a, b in zip(strata.start[:-1], strata.start[1:], strict=True)]


@given(LISTS)
def test_lists_go_in_and_out(labels: list[list[int]]) -> None:
    assert as_lists(Strata.several(labels)) == [sorted(set(row)) for row in labels]


@given(LISTS, st.data())
def test_some_rows_are_taken_in_the_order_asked(labels: list[list[int]], data: st.DataObject) -> None:
    strata = Strata.several(labels)
    rows = data.draw(st.lists(st.integers(0, len(labels) - 1), max_size=9)) if labels else []
    taken = strata.take(np.array(rows, dtype=np.int64))
    assert as_lists(taken) == [as_lists(strata)[row] for row in rows]
    assert taken.count == strata.count


@given(LISTS)
def test_occurrences_name_every_row(labels: list[list[int]]) -> None:
    strata = Strata.several(labels)
    row, label = strata.occurrences()
    expected = [(i, each) for i, row in enumerate(labels) for each in (sorted(set(row)) or [strata.count])]
    assert sorted(zip(row.tolist(), label.tolist(), strict=True)) == expected


def test_one_label_and_none() -> None:
    assert as_lists(Strata.one(np.array([2, 0]))) == [[2], [0]]
    assert Strata.one(np.array([2, 0])).count == 3
    assert as_lists(Strata.none(2)) == [[], []]
