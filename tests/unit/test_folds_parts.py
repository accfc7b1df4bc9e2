"""What a person is told of parts that are empty or of another size than asked: the true cause, and what helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysft.errors import DataError
from tests.support.jobs import corpus_rows, write_csv
from tests.support.preparing import finding, job_of, run

FIVE = {"k": 5, "test": "15%"}
ALONE: dict[str, Any] = {"group": None, "audit": {"similarity": 1.0}}


def test_too_few_times(base_folder: Path, tmp_path: Path) -> None:
    rows = [{**row, "day": f"2024-01-0{1 + number % 3}"} for number, row in enumerate(corpus_rows(30))]
    data = {**ALONE, "time": "day"}
    with pytest.raises(DataError, match=r"30 rows have 3 different times \(data\.time: day\)") as caught:
        run(job_of(tmp_path / "a", base_folder, rows, data=data, folds={**FIVE, "order": "time"}))
    assert "folds.k: 2 or less" in str(caught.value) and "must stay together" not in str(caught.value)
    run(job_of(tmp_path / "b", base_folder, rows, data=data, folds={"k": 2, "test": "15%", "order": "time"}))


def test_labels_of_one_row_leave_none_to_test(base_folder: Path, tmp_path: Path) -> None:
    rows = [{**row, "label": f"label {number}"} for number, row in enumerate(corpus_rows(12))]
    with pytest.raises(DataError, match="12 rows have 12 labels, and the last row of each label must train") as caught:
        run(job_of(tmp_path / "a", base_folder, rows, data=ALONE, folds=FIVE))
    assert "second row" in str(caught.value) and "fewer folds" not in str(caught.value)
    more = [*rows, *({**row, "text": row["text"] + " again"} for row in rows[:2])]
    assert run(job_of(tmp_path / "b", base_folder, more, data=ALONE, folds=FIVE)).audit["rows"]["kept"] == 14
    held = [{**row, "text": row["text"] + " mine"} for row in rows]
    write_csv(tmp_path / "c" / "held.csv", held[:6])
    write_csv(tmp_path / "c" / "mine.csv", held[6:])
    own = {**ALONE, "test": "held.csv", "validation": "mine.csv"}
    assert run(job_of(tmp_path / "c", base_folder, rows, data=own, folds=FIVE)).audit["rows"]["kept"] == 24


def test_a_group_of_most_rows_is_named(base_folder: Path, tmp_path: Path) -> None:
    rows = [{**row, "customer": "big" if number < 120 else str(number)} for number, row in enumerate(corpus_rows(200))]
    prepared = run(job_of(tmp_path, base_folder, rows, folds={"k": 2, "test": "15%"}))
    found = finding(prepared, "part_sizes")
    assert (found["level"], found["action"]) == ("warning", "report")
    assert "120 rows must stay together, 60% of all" in found["explanation"]
    assert any(example["detail"].startswith("fold 1: 120 rows") for example in found["examples"])
    assert prepared.audit["folds"]["1"] == 120


def test_a_corpus_that_splits_evenly_has_nothing_to_say(base_folder: Path, tmp_path: Path) -> None:
    found = finding(run(job_of(tmp_path, base_folder, corpus_rows(240), folds=FIVE)), "part_sizes")
    assert (found["level"], found["found"]) == ("fine", 0)


def test_training_rows_newer_than_a_test_file_are_counted(base_folder: Path, tmp_path: Path) -> None:
    rows = [{**row, "day": f"2024-01-{1 + number:02d}"} for number, row in enumerate(corpus_rows(28))]
    held = [{**row, "day": "2024-01-21", "text": row["text"] + " mine"} for row in corpus_rows(10, seed=5)]
    write_csv(tmp_path / "held.csv", held)
    data = {**ALONE, "time": "day", "test": "held.csv"}
    prepared = run(job_of(tmp_path, base_folder, rows, data=data, folds={"k": 3, "order": "time"}))
    checks = {check["what"]: (check["checked"], check["crossing"]) for check in prepared.audit["proof"]}
    assert checks["rows in order of time, your files"] == (28, 7)
