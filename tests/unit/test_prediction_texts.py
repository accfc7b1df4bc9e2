"""The rows to predict are read as the job says and cleaned as training rows were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raysft.corpus.rows import Meaning, canonical
from raysft.errors import DataError, JobFileError, UsageError
from raysft.prediction.texts import Reading, Row, open_files, rows_of
from raysft.reading.records import Columns, read_batches

CELLS: list[Any] = [
    True,
    3.0,
    3.5,
    10**20,
    ["x", "y"],
    {"a": 1},
    None,
    "",
    " \u2028 ",
    " e\u0301te\r\nz ",
    "\ud83d",
    "a",
]


def rows(path: Path, reading: Reading = Reading(), texts: tuple[str, ...] = ()) -> list[Row]:  # noqa: B008 (frozen)
    return list(rows_of(open_files([str(path)], reading), texts, reading.column))


def test_every_kind_of_cell_becomes_what_it_becomes_in_training(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    path.write_text("".join(json.dumps({"text": cell, "label": "a"}) + "\n" for cell in CELLS), encoding="utf-8")
    (source,) = open_files([str(path)], Reading())
    columns = Columns("text", "label")
    (batch,) = read_batches(source, columns)
    trained = canonical(batch, source, columns, Meaning("classification")).to_pylist()
    found = rows(path)
    assert [(row.line, row.text, row.reason or None) for row in found] == [
        (row["line"], row["text"], row["reason"]) for row in trained
    ]
    assert [row.text for row in found][:3] == ["true", "3", "3.5"]
    assert found[4].error == "text_is_not_text: found a list of 2"
    assert [row.reason for row in found[6:9]] == ["blank_text"] * 3
    assert found[9].text == "\u00e9te\nz" and found[10].reason == "not_utf8"


def test_pasted_texts_come_last_and_are_judged_alike(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("text\nhello\n")
    found = rows(path, texts=(" hi ", " ", "bad \udcff byte"))
    assert [row.where for row in found] == [f"{path}:2", "--text:1", "--text:2", "--text:3"]
    assert [row.text for row in found] == ["hello", "hi", "", "bad \ufffd byte"]
    assert [row.reason for row in found] == ["", "", "blank_text", "not_utf8"]


def test_format_and_encoding_are_used(tmp_path: Path) -> None:
    path = tmp_path / "ru.txt"
    path.write_bytes("text\nда\nнет\n".encode("cp1251"))
    with pytest.raises(DataError, match=r"cannot read \.txt"):
        rows(path)
    assert [row.text for row in rows(path, Reading("text", "csv", "cp1251"))] == ["да", "нет"]
    assert {row.reason for row in rows(path, Reading("text", "csv", "utf-8"))} == {"not_utf8"}


def test_lines_of_text_need_no_labels_and_no_column(tmp_path: Path) -> None:
    path = tmp_path / "plain.txt"
    path.write_text("one\n\ntwo, three\n")
    found = rows(path, Reading("message", "lines"))
    assert [(row.line, row.text, row.reason) for row in found] == [
        (1, "one", ""), (2, "", "blank_text"), (3, "two, three", ""),
    ]  # fmt: skip


def test_what_is_asked_for_stands_above_the_job() -> None:
    job = Reading("message", "csv", "cp1251")
    assert job.instead(None, None, None) == job
    assert job.instead("body", "jsonl", "utf-8") == Reading("body", "jsonl", "utf-8")
    with pytest.raises(UsageError, match="--format xls") as error:
        job.instead(None, "xls", None)
    assert "csv, tsv" in error.value.next_step
    with pytest.raises(JobFileError, match=r"--encoding.*'klingon'"):
        job.instead(None, None, "klingon")


def test_a_missing_column_is_said_before_the_first_file_is_read(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "other.csv"
    good.write_text("text\nx\n")
    bad.write_text("message,day\nx,1\n")
    with pytest.raises(DataError, match=r"other\.csv: no column 'text'; read as csv it has: message, day") as error:
        open_files([str(good), str(bad)], Reading())
    assert "--column" in error.value.next_step and "--format" in error.value.next_step
