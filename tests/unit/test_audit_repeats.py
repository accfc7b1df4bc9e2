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


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_duplicates(rows: list[Row]) -> None:
    first: dict[tuple[int, int], int] = {}
    expected = {}
    for index, (text, label, origin, alive) in enumerate(rows):
        if alive and origin == TRAIN:
            if (text, label) in first:
                expected[index] = first[text, label]
            first.setdefault((text, label), index)
    assert pairs(repeats.duplicates(*columns(rows))) == expected


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_conflicts(rows: list[Row]) -> None:
    mine = [i for i, (_, _, origin, alive) in enumerate(rows) if alive and origin == TRAIN]
    expected = {}
    for index in mine:
        others = [i for i in mine if rows[i][0] == rows[index][0] and rows[i][1] != rows[index][1]]
        if others:
            expected[index] = others[0]
    assert pairs(repeats.conflicts(*columns(rows))) == expected


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_leaks(rows: list[Row]) -> None:
    text, _, origin, alive = columns(rows)
    found = pairs(repeats.leaks(text, origin, alive))
    expected = set()
    for index, row in enumerate(rows):
        held = {TRAIN: (TEST, VALIDATION), VALIDATION: (TEST,)}.get(row[2], ())
        if row[3] and any(other[3] and other[0] == row[0] and other[2] in held for other in rows):
            expected.add(index)
    assert set(found) == expected
    for index, other in found.items():
        assert rows[other][0] == rows[index][0]
        assert rows[other][2] != TRAIN


def test_near_leaks_are_training_rows_only() -> None:
    cluster = np.array([0, 0, 2, 2, 4])
    origin = np.array([TRAIN, TEST, VALIDATION, TEST, TRAIN], np.int8)
    assert pairs(repeats.near_leaks(cluster, origin, np.ones(5, bool))) == {0: 1}


def test_later_rows_of_a_cluster() -> None:
    cluster = np.array([0, 1, 0, 0, 1])
    origin = np.array([TEST, TRAIN, TRAIN, TRAIN, TRAIN], np.int8)
    assert pairs(repeats.later_of_cluster(cluster, origin, np.ones(5, bool))) == {3: 2, 4: 1}


def test_the_key_of_a_text_ignores_case_and_spacing_only() -> None:
    keys = repeats.text_keys(["Hello  World", "hello world", "hello, world", "straße", "STRASSE"])
    assert keys[0] == keys[1] != keys[2]
    assert keys[3] == keys[4]
    assert keys.dtype == np.uint64
