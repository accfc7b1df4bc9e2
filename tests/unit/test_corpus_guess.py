"""`raysft init` takes the columns for what a person would."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysft.corpus.guess import guess
from raysft.errors import DataError, NotFound

TEXTS = [f"message number {number} about my parcel" for number in range(12)]


def table(folder: Path, columns: dict[str, list[str]], name: str = "rows.csv") -> Path:
    path = folder / name
    lines = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines))
    return path


def test_names_that_people_use_are_known(tmp_path: Path) -> None:
    found = guess(
        table(
            tmp_path, {"customer_id": ["c1", "c2"] * 6, "Intent": ["x", "y"] * 6, "Message": TEXTS, "note": ["n"] * 12}
        )
    )
    assert (found.text, found.label, found.group) == ("Message", "Intent", "customer_id")
    assert (found.rows, found.labels) == (12, ("x", "y"))


def test_without_known_names_the_values_decide(tmp_path: Path) -> None:
    found = guess(table(tmp_path, {"a": [str(i) for i in range(12)], "b": ["x", "y", "z"] * 4, "c": TEXTS}))
    assert (found.text, found.label, found.group) == ("c", "b", None)


def test_a_group_that_is_different_or_the_same_in_each_row_is_no_group(tmp_path: Path) -> None:
    for values in ([f"c{i}" for i in range(12)], ["c"] * 12):
        assert guess(table(tmp_path, {"user": values, "label": ["x", "y"] * 6, "text": TEXTS})).group is None


def test_json_lines_are_understood_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "\n".join(f'{{"utterance": "{text}", "category": {index % 2}}}' for index, text in enumerate(TEXTS))
    )
    found = guess(path)
    assert (found.text, found.label, found.labels) == ("utterance", "category", ("0", "1"))


@pytest.mark.parametrize(
    ("columns", "missing"),
    [
        ({"a": ["1", "1"] * 3, "b": ["2", "2"] * 3}, "text"),
        ({"text": TEXTS, "b": ["2"] * 12}, "label"),
        ({"a": []}, "text"),
    ],
)
def test_a_column_that_cannot_be_found_is_named(tmp_path: Path, columns: dict[str, list[str]], missing: str) -> None:
    with pytest.raises(DataError, match=f"no column looks like the {missing}") as caught:
        guess(table(tmp_path, columns))
    assert all(name in caught.value.message for name in columns)


def test_an_empty_file_has_no_columns(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"")
    with pytest.raises(DataError, match="it has: none"):
        guess(tmp_path / "rows.csv")


def test_a_missing_file_and_a_kind_that_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        guess(tmp_path / "rows.csv")
    with pytest.raises(NotFound):
        guess(tmp_path)
    with pytest.raises(DataError, match=r"cannot read \.txt"):
        guess(table(tmp_path, {"text": ["a"], "label": ["x"]}, "rows.txt"))
