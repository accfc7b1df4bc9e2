"""The proof finds what was broken by hand, and counts without knowing how folds were made."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from raysft.folds.assign import FREE, GIVEN, SEALED, assign
from raysft.folds.proof import crossings, proof
from raysft.folds.strata import Strata
from raysft.folds.units import units_of

Array = np.ndarray[Any, Any]


def crossing(checks: list[dict[str, Any]]) -> dict[str, int]:
    return {each["what"]: each["crossing"] for each in checks}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-2, 3)), max_size=30))
def test_crossings_count_the_keys_that_stand_in_two_parts(rows: list[tuple[int, int]]) -> None:
    parts: dict[int, set[int]] = {}
    for key, part in rows:
        parts.setdefault(key, set()).add(part)
    keys, places = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    assert crossings(keys, places) == sum(len(each) > 1 for each in parts.values())


class Split:
    """Sixty rows in groups, with equal texts and near-duplicates, split into folds."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.groups = random.integers(-1, 12, 60)
        self.texts = random.integers(0, 50, 60).astype(np.uint64)
        self.pairs = random.integers(0, 60, (8, 2))
        self.units = units_of(self.groups, self.pairs, self.texts)
        keys = random.integers(0, 2**64, 60, dtype=np.uint64)
        self.fold = assign(Strata.one(random.integers(0, 3, 60)), self.units, keys, 4, 0.15)

    def proof(self, fold: Array) -> dict[str, int]:
        return crossing(proof(fold, self.units, self.groups, self.texts, self.pairs))


@given(st.integers(0, 10**6))
def test_what_was_assigned_is_proven(seed: int) -> None:
    split = Split(seed)
    assert split.proof(split.fold) == {"groups": 0, "same texts": 0, "units": 0, "near-duplicate pairs": 0}


@given(st.integers(0, 10**6), st.integers(0, 59))
def test_one_row_moved_by_hand_is_found(seed: int, row: int) -> None:
    split = Split(seed)
    fold = split.fold.copy()
    fold[row] = 3 if fold[row] != 3 else SEALED
    mates = np.arange(60) != row
    assume((split.units[row] == split.units[mates]).any())
    found = split.proof(fold)
    pairs = split.pairs[(split.pairs == row).any(axis=1)]
    assert found["units"] == 1
    assert found["groups"] == (split.groups[row] >= 0 and (split.groups[row] == split.groups[mates]).any())
    assert found["same texts"] == (split.texts[row] == split.texts[mates]).any()
    assert found["near-duplicate pairs"] == (pairs[:, 0] != pairs[:, 1]).sum()


def test_every_check_says_how_much_it_looked_at() -> None:
    checks = proof(
        np.array([0, 0, 1, SEALED]),
        np.array([0, 0, 1, 2]),
        groups=np.array([7, 7, -1, 8]),
        texts=np.array([1, 1, 2, 3], dtype=np.uint64),
        pairs=np.array([[0, 1]]),
    )
    assert [(each["what"], each["checked"], each["crossing"]) for each in checks] == [
        ("groups", 2, 0),
        ("same texts", 3, 0),
        ("units", 3, 0),
        ("near-duplicate pairs", 1, 0),
    ]
    assert all(set(each) == {"what", "checked", "crossing", "note"} for each in checks)
    assert all(isinstance(each[name], int) for each in checks for name in ("checked", "crossing"))


def test_what_is_not_there_is_not_checked() -> None:
    assert crossing(proof(np.array([0, 1]), np.array([0, 1]))) == {"units": 0}


def test_rows_of_the_persons_own_files_are_counted_apart() -> None:
    """Nothing of theirs is moved, so what they share with data.train is said, and is no fault of the folds."""
    origin = np.array([FREE, FREE, FREE, GIVEN, GIVEN, SEALED])
    found = proof(
        np.array([0, 1, 1, GIVEN, GIVEN, SEALED]),
        np.array([0, 1, 2, 1, 3, 3]),
        groups=np.array([5, 6, -1, 6, 7, 7]),
        pairs=np.array([[1, 3], [3, 4], [0, 2], [2, 5]]),
        given=origin,
    )
    assert crossing(found) == {
        "groups": 0,
        "groups, your files": 2,  # 6: train and validation; 7: validation and test
        "units": 0,
        "units, your files": 2,
        "near-duplicate pairs": 1,
        "near-duplicate pairs, your files": 2,
    }
    assert {each["what"]: each["checked"] for each in found}["near-duplicate pairs, your files"] == 3
    assert all(bool(each["note"]) == each["what"].endswith("your files") for each in found)


def test_a_unit_out_of_the_order_of_time_is_found() -> None:
    time = np.array([1.0, 2.0, 3.0, 4.0, 0.0])
    units = np.array([0, 1, 2, 3, 3])
    good = np.array([0, 0, 1, SEALED, SEALED])
    assert crossing(proof(good, units, time=time))["units in order of time"] == 0
    late = np.array([0, 1, 0, SEALED, SEALED])
    assert crossing(proof(late, units, time=time))["units in order of time"] == 1
    same_time = np.array([1.0, 3.0, 3.0, 4.0, 0.0])
    assert crossing(proof(good, units, time=same_time))["units in order of time"] == 1


def test_training_rows_newer_than_the_persons_own_files_are_counted() -> None:
    origin = np.array([FREE, FREE, FREE, SEALED, SEALED])
    time = np.array([1.0, 4.0, 6.0, 5.0, 9.0])
    found = proof(np.array([0, 1, 1, SEALED, SEALED]), np.arange(5), given=origin, time=time)
    (check,) = [each for each in found if each["what"] == "rows in order of time, your files"]
    assert (check["checked"], check["crossing"]) == (3, 1)
    assert "newer than the oldest row" in check["note"]
    time[2] = 5.0
    older = proof(np.array([0, 1, 1, SEALED, SEALED]), np.arange(5), given=origin, time=time)
    assert crossing(older)["rows in order of time, your files"] == 0


def test_rows_that_are_sealed_off_may_be_newer_than_the_persons_validation_file() -> None:
    origin, time = np.array([FREE, FREE, GIVEN, GIVEN]), np.array([1.0, 9.0, 5.0, np.nan])
    found = crossing(proof(np.array([0, SEALED, GIVEN, GIVEN]), np.arange(4), given=origin, time=time))
    assert found["rows in order of time, your files"] == 0


def test_no_rows_prove_nothing_wrong() -> None:
    nothing = np.zeros(0, np.int64)
    assert set(crossing(proof(nothing, nothing, nothing, nothing, nothing, nothing, nothing * 1.0)).values()) == {0}
