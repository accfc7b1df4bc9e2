"""The canonical row: cleaned once and for all, kept or rejected for one named reason."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raysft.corpus import rows
from raysft.corpus.records import Columns, RawRow
from raysft.corpus.rows import ROW, check, clean, concat, same_text, tables_of, where

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ALL = Columns("text", "label", "group")


@given(TEXT)
@example("e\x00\u0301")
@example("\r\n\r")
@example("\x85 \x1f")
def test_a_clean_text_is_canonical_and_stays_as_it_is(text: str) -> None:
    found = clean(text)
    assert clean(found) == found
    assert unicodedata.is_normalized("NFC", found)
    assert found == found.strip()
    assert all(c in "\n\t" or unicodedata.category(c) != "Cc" for c in found)


def test_cleaning_keeps_what_people_see() -> None:
    assert clean("  Cafe\u0301\r\nau\tlait \x00🙂 ") == "Café\nau\tlait 🙂"


@given(TEXT, TEXT)
def test_same_text_ignores_case_and_spacing_only(first: str, second: str) -> None:
    assert same_text(f" {first}\n") == same_text(first)
    assert same_text(first.casefold()) == same_text(first)
    assert (same_text(first) == same_text(second)) == (first.casefold().split() == second.casefold().split())


REASONS = [
    (RawRow(2, "a", "x", "g"), None, ""),
    (RawRow(2, " \n", "x", "g"), "blank_text", ""),
    (RawRow(2, "\x00", "x", "g"), "blank_text", ""),
    (RawRow(2, "a", " ", "g"), "missing_label", ""),
    (RawRow(2, "a", "x", ""), "missing_group", "no value in column group"),
    (RawRow(2, "", "", ""), "blank_text", ""),
    (RawRow(2, "", "", "", "malformed_csv", "why"), "malformed_csv", "why"),
]


@pytest.mark.parametrize(("row", "reason", "detail"), REASONS)
def test_the_first_thing_wrong_is_the_reason(row: RawRow, reason: str | None, detail: str) -> None:
    found = check(row, ALL)
    assert (found["reason"], found["detail"], found["line"]) == (reason, detail, 2)


def test_what_is_not_asked_for_cannot_be_missing() -> None:
    assert check(RawRow(2, "a", "", ""), Columns("text", None))["reason"] is None


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_a_file_becomes_small_tables_that_lose_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(rows, "BATCH_ROWS", 3)
    path = tmp_path / "rows.csv"
    path.write_text("text,label,group\n" + "".join(f"t{i},x,g\n" for i in range(count)))
    tables = list(tables_of(path, "test", ALL))
    assert all(table.schema.equals(ROW) and table.num_rows <= 3 for table in tables)
    whole = concat(tables)
    assert whole.column("text").to_pylist() == [f"t{i}" for i in range(count)]
    assert whole.column("line").to_pylist() == list(range(2, count + 2))
    assert set(whole.column("origin").to_pylist()) <= {"test"}
    assert set(whole.column("source").to_pylist()) <= {str(path)}


def test_no_tables_are_an_empty_table() -> None:
    assert concat([]).schema.equals(ROW) and concat([]).num_rows == 0


def test_a_place_is_file_and_line() -> None:
    assert where("/long/way/tickets.csv", 12) == "tickets.csv:12"
