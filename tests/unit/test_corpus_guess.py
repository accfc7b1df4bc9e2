"""`raysft init` takes the columns for what a person would."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
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


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet", "rows.jsonl.gz", "many.jsonl"])
def test_every_format_is_understood(tmp_path: Path, name: str) -> None:
    rows = [{"utterance": text, "category": index % 2} for index, text in enumerate(TEXTS)]
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    else:
        rows = rows * 500 if name.startswith("many") else rows
        content = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
        (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    found = guess(tmp_path / name)
    assert (found.text, found.label, found.labels) == ("utterance", "category", ("0", "1"))
    assert found.rows == min(2000, len(rows)) and found.file == tmp_path / name


def test_rows_that_cannot_be_read_and_ambiguous_columns_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = "".join(f"{text},{index % 2},n,n\n" for index, text in enumerate(TEXTS))
    path.write_bytes(b"text,label,note,note\nonly one field\ncaf\xe9,x,n,n\n" + rows.encode())
    found = guess(path)
    assert [column.name for column in found.columns] == ["text", "label"]
    assert found.rows == 13 and found.columns[0].filled == 12


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


CHAT = [{"role": "user", "content": "where?"}, {"role": "assistant", "content": "here it is"}]


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"messages": CHAT, "note": 1}, ("messages", "", None)),
        ({"conversations": [{"from": "human", "value": "where?"}, {"from": "gpt", "value": "here it is"}]},
         ("conversations", "", None)),
        ({"prompt": "where?", "completion": "here it is"}, ("prompt", "completion", None)),
        ({"question": "where?", "answer": "here it is"}, ("question", "answer", None)),
        ({"instruction": "where", "input": "?", "output": "here it is"}, ("instruction", "output", "input")),
    ],
)  # fmt: skip
def test_a_file_with_answers_is_known_by_its_columns(
    tmp_path: Path, row: dict[str, object], columns: tuple[str, str, str | None]
) -> None:
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(row)}\n" * 3)
    for task in (None, "generation"):
        found = guess(tmp_path / "a.jsonl", task)
        assert (found.task, (found.text, found.label, found.context)) == ("generation", columns)
        assert (found.rows, found.group, found.labels) == (3, None, ())
        assert (found.answer, found.conversation) == (len("here it is"), len("where?here it is") + 2 * ("input" in row))


def test_a_long_conversation_is_one_that_few_exceed(tmp_path: Path) -> None:
    rows = [
        {"prompt": "é" * number, "completion": "a" * number, "customer": f"c{number // 2}"} for number in range(1, 101)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = guess(tmp_path / "a.jsonl")
    assert (found.conversation, found.answer, found.group) == (99 * 3, 99, "customer")


def test_a_file_without_any_answer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": CHAT[:1]}))
    with pytest.raises(DataError, match="no row with an answer was found; it has: messages"):
        guess(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.conll", "Ann\tB-PER\nflies\tO\n", ("text", "label")),
        ("a.jsonl", '{"tokens": ["Ann", "flies"], "ner_tags": ["B-PER", "O"]}', ("tokens", "ner_tags")),
        ("a.jsonl", '{"text": "Ann flies", "spans": [[0, 3, "PER"]]}', ("text", "spans")),
    ],
)
def test_a_file_with_entities_is_known_by_its_columns(
    tmp_path: Path, name: str, content: str, columns: tuple[str, str]
) -> None:
    (tmp_path / name).write_text(content)
    found = guess(tmp_path / name)
    assert (found.task, (found.text, found.label), found.labels) == ("token-classification", columns, ("PER",))
    assert found.unnamed == name.endswith(".conll")


@pytest.mark.parametrize(("name", "content"), [("a.conll", "a\tO\n"), ("a.jsonl", '{"text": "a", "spans": []}')])
def test_a_file_without_any_entity_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="no row with an entity was found"):
        guess(tmp_path / name)


def test_a_file_without_rows_or_columns(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        guess(tmp_path / "rows.csv")
    (tmp_path / "rows.jsonl").write_bytes(b"\n")
    with pytest.raises(DataError, match="it has: none"):
        guess(tmp_path / "rows.jsonl")


def test_a_missing_file_and_a_kind_that_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        guess(tmp_path / "rows.csv")
    with pytest.raises(DataError, match="a folder, and not one"):
        guess(tmp_path)
    with pytest.raises(DataError, match=r"cannot read \.txt"):
        guess(table(tmp_path, {"text": ["a"], "label": ["x"]}, "rows.txt"))
