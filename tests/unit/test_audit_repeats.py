"""Repeated texts, contradicting labels and leaks, against plain loops over small corpora."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raysft.audit import repeats
from raysft.audit.repeats import TEST, TRAIN, VALIDATION

ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 2), st.sampled_from([TRAIN, TRAIN, VALIDATION, TEST]), st.booleans()),
    max_size=25,
)
Row = tuple[int, int, int, bool]


def columns(rows: list[Row]) -> tuple[Any, Any, Any, Any]:
    text, label, origin, alive = zip(*rows, strict=True) if rows else ((), (), (), ())
    return np.array(text, np.uint64), np.array(label, np.uint64), np.array(origin, np.int8), np.array(alive, bool)


def pairs(found: tuple[Any, Any]) -> dict[int, int]:
    return dict(zip(found[0].tolist(), found[1].tolist(), strict=True))


def among(rows: list[Row], part: int) -> list[int]:
    """Places of the rows of one part that are still there."""
    return [index for index, row in enumerate(rows) if row[3] and row[2] == part]


def repeated(rows: list[Row], part: int) -> dict[int, int]:
    first: dict[tuple[int, int], int] = {}
    expected = {}
    for index in among(rows, part):
        said = rows[index][:2]
        if said in first:
            expected[index] = first[said]
        first.setdefault(said, index)
    return expected


def contradicting(rows: list[Row], part: int) -> dict[int, int]:
    expected = {}
    for index in among(rows, part):
        others = [i for i in among(rows, part) if rows[i][0] == rows[index][0] and rows[i][1] != rows[index][1]]
        if others:
            expected[index] = others[0]
    return expected


def standing_in(rows: list[Row], part: int, held: int) -> dict[int, int]:
    expected = {}
    for index in among(rows, part):
        others = [i for i in among(rows, held) if rows[i][0] == rows[index][0]]
        if others:
            expected[index] = others[0]
    return expected


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_duplicates(rows: list[Row]) -> None:
    assert pairs(repeats.duplicates(*columns(rows))) == repeated(rows, TRAIN)


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_conflicts(rows: list[Row]) -> None:
    assert pairs(repeats.conflicts(*columns(rows))) == contradicting(rows, TRAIN)


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_what_repeats_within_each_held_out_file(rows: list[Row]) -> None:
    """A text in both files is no duplicate and no conflict: each file is looked at alone."""
    assert pairs(repeats.held_out_duplicates(*columns(rows))) == repeated(rows, VALIDATION) | repeated(rows, TEST)
    expected = contradicting(rows, VALIDATION) | contradicting(rows, TEST)
    assert pairs(repeats.held_out_conflicts(*columns(rows))) == expected


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_leaks_are_training_rows_only(rows: list[Row]) -> None:
    text, _, origin, alive = columns(rows)
    expected = standing_in(rows, TRAIN, VALIDATION) | standing_in(rows, TRAIN, TEST)
    assert pairs(repeats.leaks(text, origin, alive)) == expected
    assert pairs(repeats.validation_in_test(text, origin, alive)) == standing_in(rows, VALIDATION, TEST)


def test_the_key_of_a_text_ignores_case_and_spacing_only() -> None:
    keys = repeats.text_keys(["Hello  World", "hello world", "hello, world", "straße", "STRASSE"])
    assert keys[0] == keys[1] != keys[2]
    assert keys[3] == keys[4]
    assert keys.dtype == np.uint64
