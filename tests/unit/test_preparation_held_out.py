"""Rows of the person's own validation and test files: what is said of them, and what of the training rows like them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.jobs import corpus_rows, write_csv
from tests.support.preparing import finding, job_of, left_out, run

GOOD = corpus_rows(60)
HELD = corpus_rows(24, seed=5)


def test_held_out_rows_are_never_left_out_for_what_they_say(base_folder: Path, tmp_path: Path) -> None:
    """A score belongs to the very rows that the person named."""
    mail = {"text": "write to ann@example.org", "label": "refund", "customer": "y"}
    write_csv(tmp_path / "held.csv", [*HELD, mail, mail, {**mail, "label": "account"}])
    audit = {"personal_data": "drop", "near_duplicates": "drop", "max_rejected": 0}
    prepared = run(job_of(tmp_path, base_folder, GOOD, data={"test": "held.csv", "audit": audit}))
    assert prepared.audit["parts"]["test"] == len(HELD) + 3
    assert finding(prepared, "personal_data")["found"] == 3


def test_rows_of_the_validation_file_that_stand_in_the_test_file(base_folder: Path, tmp_path: Path) -> None:
    """They are told of; only training rows are left out."""
    write_csv(tmp_path / "held.csv", HELD)
    write_csv(tmp_path / "mine.csv", [*corpus_rows(20, seed=8), HELD[3], {**HELD[4], "text": HELD[4]["text"].upper()}])
    data = {"test": "held.csv", "validation": "mine.csv", "audit": {"max_rejected": 0}}
    prepared = run(job_of(tmp_path, base_folder, GOOD, data=data))
    assert prepared.audit["parts"] == {"train": 60, "validation": 22, "test": 24}
    assert left_out(prepared) == [] and finding(prepared, "leakage")["found"] == 0
    told = finding(prepared, "validation_in_test")
    assert (told["found"], told["action"], told["level"]) == (2, "report", "warning")
    assert "mine.csv:22" in told["examples"][0]["where"] and "held.csv:5: " in told["examples"][0]["detail"]


def test_where_no_row_validates_those_of_the_validation_file_do_not_train(base_folder: Path, tmp_path: Path) -> None:
    """Which of them stand in the test file too is only told."""
    write_csv(tmp_path / "mine.csv", HELD)
    prepared = run(job_of(tmp_path, base_folder, GOOD, data={"validation": "mine.csv"}, folds={"validation": "none"}))
    assert prepared.audit["parts"]["left out"] == len(HELD) and "validation" not in prepared.audit["parts"]
    assert len(prepared.tokens("validation")) == 0
    assert prepared.part("train").num_rows == len(prepared.tokens("train")) == prepared.audit["parts"]["train"] > 0
    assert {Path(row["source"]).name for row in prepared.part("train").to_pylist()} == {"rows.csv"}


@pytest.mark.parametrize("part", ["test", "validation"])
def test_contradictions_and_copies_within_a_held_out_file(base_folder: Path, tmp_path: Path, part: str) -> None:
    """Said, and nothing is left out; the same rows in two files are neither."""
    mixed = [
        {"text": text, "label": label} for text, label in (("x y", "refund"), ("X Y", "account"), ("x  y", "account"))
    ]
    write_csv(tmp_path / "held.csv", [*HELD, *({**row, "customer": "z"} for row in mixed)])
    write_csv(tmp_path / "mine.csv", HELD[:5])
    files = {part: "held.csv", {"test": "validation", "validation": "test"}[part]: "mine.csv"}
    prepared = run(job_of(tmp_path, base_folder, GOOD, data={**files, "audit": {"max_rejected": 0}}))
    assert prepared.audit["parts"][part] == len(HELD) + 3 and left_out(prepared) == []
    conflicts, copies = (finding(prepared, f"held_out_{name}") for name in ("conflicts", "duplicates"))
    assert (conflicts["found"], conflicts["level"]) == (3, "warning")
    assert (copies["found"], copies["level"]) == (1, "note")
    assert [each["where"] for each in conflicts["examples"]] == ["held.csv:26", "held.csv:27", "held.csv:28"]
    assert finding(prepared, "conflicts")["found"] == finding(prepared, "duplicates")["found"] == 0


def test_near_leakage_leaves_out_only_what_resembles_a_held_out_row(base_folder: Path, tmp_path: Path) -> None:
    """Each row of the chain is almost the one before it; the last has nothing in common with the test row."""
    letters = [f"{n * 7919 % 100000:05d}" for n in range(70)]
    chain = [" ".join(letters[start : start + 40]) for start in range(0, 31, 2)]
    rows = [{"text": text, "label": "refund", "customer": f"x{number}"} for number, text in enumerate(chain[1:])]
    write_csv(tmp_path / "held.csv", [*HELD, {"text": chain[0], "label": "refund", "customer": "y"}])
    data = {"test": "held.csv", "audit": {"near_leakage": "drop", "max_rejected": "20%"}}
    prepared = run(job_of(tmp_path, base_folder, GOOD + rows, data=data))
    assert prepared.audit["near_duplicates"]["largest"] >= len(chain) - 3, "one chain"
    gone = left_out(prepared)
    assert {row["reason"] for row in gone} == {"near_leakage"} and 1 <= len(gone) <= 3
    assert [row["row_id"] - len(GOOD) for row in gone] == list(range(len(gone)))
    assert {row["detail"] for row in gone} == {"almost the same as held.csv:26"}
