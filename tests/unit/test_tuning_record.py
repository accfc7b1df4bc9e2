"""What is on storage is read back as it was, whatever the last line looks like."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.storage.layout import SweepFolder
from raysft.tuning.parameter import Settings
from raysft.tuning.record import Known, Record, Units, scores_of
from raysft.tuning.results import Trial
from raysft.tuning.work import FoldId
from tests.support.sweeps import fold, units_of, write_fold

ONE: Settings = {"train.learning_rate": 1e-3, "model.lora": {"r": 8}}
TWO: Settings = {"train.learning_rate": 1e-4, "model.lora": None}


def record(folder: Path, without: int | None = None) -> Record:
    return Record(SweepFolder(folder / "sweep"), without)


def ended(number: int, stopped: str = "", behind: int | None = None) -> Trial:
    return Trial(number, {}, {"loss": "min"}, stopped=stopped, behind=behind)


def test_of_a_sweep_that_has_not_begun_nothing_is_known(tmp_path: Path) -> None:
    assert record(tmp_path).load() == ({}, 0.0)


def test_configurations_come_back_in_order_with_what_became_of_them(tmp_path: Path) -> None:
    found = record(tmp_path)
    found.proposed(1, ONE, 0.0)
    found.proposed(2, TWO, 1.0)
    found.proposed(3, {"name": "größer\u2028\x85"}, 2.0)
    found.spent(7.54)
    found.ended(ended(2, "f1_macro 0.5 is behind trial 1 by 0.1 ± 0.01", 1), {"f1_macro": 0.5}, 5.0)
    found.ended(ended(1), {"f1_macro": 0.7}, 6.0)
    known, spent = record(tmp_path).load()
    assert list(known.items()) == [
        (1, Known(ONE, values={"f1_macro": 0.7})),
        (2, Known(TWO, "f1_macro 0.5 is behind trial 1 by 0.1 ± 0.01", 1, {"f1_macro": 0.5})),
        (3, Known({"name": "größer\u2028\x85"})),
    ]
    assert spent == 7.5


def test_what_failed_is_for_people_and_is_tried_again(tmp_path: Path) -> None:
    found = record(tmp_path)
    found.proposed(1, ONE, 0.0)
    found.failed(1, "no memory", 3.0)
    assert found.load() == ({1: Known(ONE)}, 3.0)
    assert "no memory" in found.folder.trials.read_text()


def test_one_that_is_in_the_race_again_is_known_as_it_was_proposed(tmp_path: Path) -> None:
    found = record(tmp_path)
    found.proposed(1, ONE, 0.0)
    found.ended(ended(1, "behind trial 2", 2), {"loss": 0.1}, 1.0)
    assert found.load()[0] == {1: Known(ONE, "behind trial 2", 2, {"loss": 0.1})}
    found.again(1, 2.0)
    assert found.load() == ({1: Known(ONE)}, 2.0)


def test_a_value_that_is_no_number_comes_back_as_one(tmp_path: Path) -> None:
    found = record(tmp_path)
    found.proposed(1, ONE, 0.0)
    found.ended(ended(1), {"loss": math.nan}, 0.0)
    values = found.load()[0][1].values
    assert values is not None and math.isnan(values["loss"])


def test_searches_within_folds_have_their_own_configurations_and_clocks(tmp_path: Path) -> None:
    record(tmp_path).proposed(1, ONE, 1.0)
    record(tmp_path, 0).proposed(1, TWO, 2.0)
    record(tmp_path, 0).ended(ended(1), {"loss": 0.1}, 9.0)
    assert record(tmp_path).load() == ({1: Known(ONE)}, 1.0)
    assert record(tmp_path, 0).load() == ({1: Known(TWO, values={"loss": 0.1})}, 9.0)
    assert record(tmp_path, 1).load() == ({}, 0.0)


LINES = 3


@pytest.mark.parametrize("place", range(LINES))
def test_wherever_a_line_is_torn_those_before_and_those_after_it_are_read(tmp_path: Path, place: int) -> None:
    """At every byte of the last line, those within a character among them."""
    found = record(tmp_path)
    write: list[Callable[[], None]] = [
        lambda: found.proposed(1, {"name": "größer"}, 1.0),
        lambda: found.proposed(2, TWO, 2.0),
        lambda: found.ended(ended(2, "0.1 ± 0.2", 1), {"loss": 0.5}, 3.0),
    ]
    for each in write[: place + 1]:
        each()
    before = found.folder.trials.read_bytes()
    start = before[:-1].rfind(b"\n") + 1
    whole = found.load()
    for end in range(start, len(before) - 1):
        found.folder.trials.write_bytes(before[:end])
        torn = found.load()
        for each in write[place:]:
            each()
        assert found.load()[0] == {**whole[0], 2: Known(TWO, "0.1 ± 0.2", 1, {"loss": 0.5})}, before[start:end]
        assert torn[0] != whole[0]


def test_a_last_line_that_lacks_only_its_end_counts(tmp_path: Path) -> None:
    found = record(tmp_path)
    found.proposed(1, ONE, 1.0)
    found.folder.trials.write_bytes(found.folder.trials.read_bytes().rstrip(b"\n"))
    assert found.load()[0] == {1: Known(ONE)}
    found.proposed(2, TWO, 2.0)
    assert found.load()[0] == {1: Known(ONE), 2: Known(TWO)}
    assert len([json.loads(line) for line in found.folder.trials.read_bytes().splitlines()]) == 2


# --- units


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(-8, 8)), min_size=1, max_size=30), st.integers(1, 3))
def test_pieces_of_rows_are_summed_over_the_unit_of_their_row(pieces: list[tuple[int, int]], epochs: int) -> None:
    """Ten rows with gaps between their numbers, in four units of which some have no piece here."""
    row_id, unit = np.arange(10) * 3 + 5, np.array([3, 0, 1, 0, 2, 3, 3, 1, 0, 2])
    rows = row_id[[row for row, _ in pieces]]
    values = np.array([[value * (epoch + 1) for _, value in pieces] for epoch in range(epochs)])
    found = Units(row_id, unit).sums(rows, values)
    there = sorted({int(unit[row]) for row, _ in pieces})
    expected = [[sum(value for row, value in pieces if unit[row] == each) for each in there]]
    assert found.tolist() == [[value * (epoch + 1) for value in expected[0]] for epoch in range(epochs)]
    assert Units(row_id, unit).sums(rows, values[0]).tolist() == expected[0]


# --- folds


def test_a_fold_without_its_record_is_not_done(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    assert scores_of(folder, 1, FoldId(0), units_of(64)) is None
    write_fold(folder.fold(1, "0"), fold(0.5))
    folder.fold(1, "0").done.unlink()
    assert scores_of(folder, 1, FoldId(0), units_of(64)) is None


def test_a_fold_that_is_done_comes_back_with_what_it_cost(tmp_path: Path) -> None:
    """Of 64 rows, 2 operations a parameter and position forward, 4 backward."""
    folder, written = SweepFolder(tmp_path), fold([0.5, 0.7], seconds=3.0, number=5, parameters=100)
    write_fold(folder.fold(2, "1-without-0"), written)
    found = scores_of(folder, 2, FoldId(1, without=0), units_of(64))
    assert found is not None
    assert (found.scores, found.seconds, found.train_loss) == (written.scores, 3.0, [0.1, 0.1])
    assert (found.parameters, found.flops) == (100, 64 * (2 * 100 + 4 * 100))
    assert found.influence["f1_macro"] == pytest.approx(written.influence["f1_macro"])
    pairs = scores_of(folder, 2, FoldId(1, without=0), Units(np.arange(64), np.arange(64) // 2))
    assert pairs is not None and pairs.influence["loss"][:, 2] == pytest.approx([0.01, 0.01])
    assert pairs.influence["loss"].shape == (2, 32)


def test_folds_of_several_searches_have_names_of_their_own() -> None:
    named = [FoldId(2), FoldId(2, without=0), FoldId(2, without=1), FoldId(2, nested=True)]
    assert [str(each) for each in named] == ["2", "2-without-0", "2-without-1", "2-nested"]
