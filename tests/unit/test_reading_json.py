"""JSON Lines and JSON documents: every object is a row, and what is none says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.errors import DataError
from raysft.reading import json_arrays
from raysft.reading.batch import Columns
from raysft.reading.records import header
from tests.support.reading import batches, details, read, seen, source, write

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUE = st.recursive(
    TEXT | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["text", "label", "more"]), VALUE), max_size=6)
X, Y = {"text": "a", "label": "x"}, {"text": "b", "label": "y"}


@given(rows=ROWS, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_written_json_lines_are_read_back_equal_with_their_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], encoding: str
) -> None:
    lines = [json.dumps(row, ensure_ascii=index % 2 == 0) for index, row in enumerate(rows)]
    content = "\n\n".join(lines) or "\n"
    found = read(tmp_path_factory.getbasetemp(), content.encode(encoding), "rows.jsonl")
    assert found == [(2 * index + 1, row.get("text"), row.get("label"), None) for index, row in enumerate(rows)]


@given(
    rows=ROWS,
    indent=st.sampled_from([None, 0, 2]),
    start=st.sampled_from(["", '{"data": ', '{"version": {"data": [1]}, "n": [1, "]"], "data" : ']),
    chunk=st.sampled_from([1, 3, 64, 1 << 18]),
)
def test_written_json_arrays_are_read_back_equal_with_their_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], indent: int | None, start: str, chunk: int
) -> None:
    content, expected = f"\n{start}[", []
    for index, row in enumerate(rows):
        content += ("," if index else "") + ("" if indent is None else "\n" + " " * indent)
        expected.append((content.count("\n") + 1, row.get("text"), row.get("label"), None))
        content += json.dumps(row, ensure_ascii=False, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_arrays, "CHUNK", chunk)
        found = read(tmp_path_factory.getbasetemp(), content + "\n]" + ("}" if start else ""), "rows.json")
    assert found == expected


@given(
    keys=st.lists(st.sampled_from(["text", "label", "ä", 'a"b', "", "text more"]) | TEXT, max_size=4),
    value=VALUE,
    ascii=st.booleans(),
    chunk=st.sampled_from([1, 64, 1 << 18]),
)
def test_a_row_with_a_key_twice_is_rejected_alone(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], value: Any, ascii: bool, chunk: int
) -> None:
    """Nobody knows which of the two values is meant. A key deeper in a value, or in a text, is no second one."""
    pairs = ", ".join(f"{json.dumps(key, ensure_ascii=ascii)} : {json.dumps([value, key, {key: 1}])}" for key in keys)
    lines = [json.dumps(X), f" {{{pairs}}}", json.dumps(Y)]
    twice = len(keys) != len(set(keys))
    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_arrays, "CHUNK", chunk)
        for name, content in (("rows.jsonl", "\n".join(lines)), ("rows.json", "[" + ",\n".join(lines) + "]")):
            found = read(folder, content, name)
            assert [row[3] for row in found] == [None, "malformed_json" if twice else None, None]
            assert not twice or found[1][1] == lines[1].strip()[:1000]
            said = details(source(folder / name))[1]
            assert said.startswith("the key ") == twice and ("stands there twice" in said) == twice


def test_values_stay_what_they_are(tmp_path: Path) -> None:
    values = [3, 3.5, True, None, ["f", {"g": "ü"}], {"role": "user"}]
    found = read(tmp_path, "\n".join(json.dumps({"text": "a", "label": each}) for each in values), "rows.ndjson")
    assert [row[2] for row in found] == values
    assert seen(source(tmp_path / "rows.ndjson"), Columns("label", None))[3] == (4, None, None, None)


def test_a_line_that_is_no_json_object_is_rejected_alone(tmp_path: Path) -> None:
    lines = [
        json.dumps(X),
        "oops",
        '["b"]',
        "null",
        "7",
        '{"text": "c"',
        "[" * 5000,
        json.dumps(X) + "x",
        json.dumps(Y),
    ]
    found = read(tmp_path, "\n".join(lines), "rows.jsonl")
    assert [row[3] for row in found] == [None, *["malformed_json"] * 7, None]
    assert [row[0] for row in found] == list(range(1, 10))
    assert found[1][1] == "oops"
    said = details(source(tmp_path / "rows.jsonl"))
    assert said[2:5] == ["a list and not an object", "null and not an object", "a number and not an object"]
    assert said[6] == "nested too deeply" and said[7] == "Extra data"


def test_nan_is_no_value_and_infinity_is_no_json(tmp_path: Path) -> None:
    content = '{"text": "a", "label": NaN}\n{"text": "b", "label": -Infinity}\n'
    assert [row[2:] for row in read(tmp_path, content, "rows.jsonl")] == [(None, None), (None, "malformed_json")]
    assert details(source(tmp_path / "rows.jsonl"))[1] == "-Infinity is not JSON"


def test_numbers_without_end_reject_their_row(tmp_path: Path) -> None:
    found = read(tmp_path, f'{{"text": {"9" * 5000}}}\n{json.dumps(X)}', "rows.jsonl")
    assert [row[3] for row in found] == ["malformed_json", None]


def test_half_an_emoji_rejects_its_row_only(tmp_path: Path) -> None:
    """JavaScript cuts texts in the middle of an emoji; Arrow and the tokenizer cannot hold the half."""
    lines = ['{"text": "cut \\ud83d"}', '{"text": "whole \\ud83d\\ude42"}', '{"text": ["a", {"\\udc12\\ud83d": 1}]}']
    found = read(tmp_path, "\n".join(lines), "rows.jsonl")
    assert [row[3] for row in found] == ["not_utf8", None, "not_utf8"]
    assert [row[1] for row in found] == ["cut \ufffd", "whole 🙂", ["a", {"\ufffd\ufffd": 1}]]
    assert details(source(tmp_path / "rows.jsonl"))[0] == "half a character (\\ud83d) in the text"


def test_a_bad_byte_rejects_its_row_only(tmp_path: Path) -> None:
    content = b'{"text": "caf\xe9", "label": "x"}, {"text": "b", "label": "y"}'
    assert [row[3] for row in read(tmp_path, content.replace(b"}, ", b"}\n"), "rows.jsonl")] == ["not_utf8", None]
    assert [row[3] for row in read(tmp_path, b"[" + content + b"]", "rows.json")] == ["not_utf8", None]


@pytest.mark.parametrize("levels", [99, 101, 500, 3000])
def test_deep_values_reject_their_row_only(tmp_path: Path, levels: int) -> None:
    deep = f'{{"text": {"[" * levels}{"]" * levels}}}'
    for name, content in (("rows.jsonl", f"{deep}\n{json.dumps(X)}"), ("rows.json", f"[{deep}, {json.dumps(X)}]")):
        found = read(tmp_path, content, name)
        assert [row[3] for row in found] == ["malformed_json" if levels > 100 else None, None]


def test_unicode_separators_do_not_end_a_line(tmp_path: Path) -> None:
    row = {"text": "a\u2028b\u2029c\x85d\x1ce", "label": "x"}
    lines = json.dumps(row, ensure_ascii=False) + "\r\n" + json.dumps(Y)
    assert read(tmp_path, lines, "rows.jsonl") == [(1, row["text"], "x", None), (2, "b", "y", None)]


def test_a_line_of_nul_bytes_is_a_row_that_cannot_be_read(tmp_path: Path) -> None:
    """What a machine that lost power leaves behind."""
    found = read(tmp_path, json.dumps(X).encode() + b"\n" + b"\x00" * 20 + b"\n", "rows.jsonl")
    assert [row[3] for row in found] == [None, "malformed_json"]


LINES = {
    "two objects": f"{json.dumps(X)}\n{json.dumps(Y)}\n",
    "blank lines": f"\n\n{json.dumps(X)}\n\n{json.dumps(Y)}\n",
    "one object": json.dumps(X),
    "a broken first line": '{"text": "a", "lab\n' + json.dumps(Y),
    "a column called data": '{"text": "a", "data": [1]}\n{"text": "b", "data": []}',
    "one long object": json.dumps({"text": "a" * 600_000, "label": "x"}),
    "a byte order mark": f"\ufeff{json.dumps(X)}\n{json.dumps(Y)}\n",
}


@pytest.mark.parametrize("content", LINES.values(), ids=LINES)
def test_a_json_file_that_is_json_lines_is_read_as_such(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content, "rows.json") == read(tmp_path, content, "rows.jsonl")


def test_an_element_that_is_no_object_is_rejected_alone(tmp_path: Path) -> None:
    elements = [
        json.dumps(X),
        "7",
        '["b", "},{"]',
        "null",
        "oops",
        '{"text": "tab\tin it"}',
        '{"a": "}"',
        json.dumps(Y),
    ]
    elements[6] = '{"text": tru, "b": "},{"}'
    found = read(tmp_path, f"[{', '.join(elements)}]", "rows.json")
    assert [row[3] for row in found] == [None, *["malformed_json"] * 6, None]
    assert [row[0] for row in found] == [1] * 8
    assert found[-1][1:3] == ("b", "y")
    said = details(source(tmp_path / "rows.json"))
    assert said[1:4] == [
        f"{what} and not an object, in row {n}" for n, what in enumerate(("a number", "a list", "null"), 2)
    ]


BROKEN = {
    "cut in a row": '[{"text": "a"}, {"text": "b',
    "cut behind a row": '[{"text": "a"}',
    "cut behind a comma": '[{"text": "a"},',
    "a bracket too few": '[{"text": "a", {"text": "b"}]',
    "no comma": '[{"text": "a"} {"text": "b"}]',
    "more behind it": '[{"text": "a"}] [1]',
    "cut behind the rows": '{"data": [{"text": "a"}]',
    "no rows": '{\n"version": 1\n}',
    "rows by name": '{\n"a": {"text": "a"},\n"b": {"text": "b"}\n}',
    "data that is no array": '{\n"data": {"text": "b"}\n}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_document_that_is_no_json_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"rows\.json: (row \d, )?(line 1: not JSON|neither an array)"):
        read(tmp_path, content, "rows.json")


def test_the_row_and_line_of_the_damage_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 3, line 4: not JSON"):
        read(tmp_path, '[\n{"text": "a"},\n{"text": "b"},\n{"text: "c"}\n]', "rows.json")


def test_an_element_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_arrays, "MAX_ELEMENT", 1000)
    with pytest.raises(DataError, match=r"row 1, line 1: not JSON .it does not end within 1000"):
        read(tmp_path, '[{"text": "' + "a" * 1_000_000, "rows.json")


def test_the_columns_are_the_keys_of_the_first_hundred_rows(tmp_path: Path) -> None:
    rows = [{"text": "a"}, *[{"label": "x"}] * 99, {"late": 1}]
    lines = write(tmp_path, "\n".join(map(json.dumps, rows)), "rows.jsonl")
    array = write(tmp_path, json.dumps(rows), "rows.json")
    assert header(source(lines)) == header(source(array)) == ["text", "label"]
    assert header(source(write(tmp_path, "oops\n[]\n[[[\n", "rows.jsonl"))) == []


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_ten_megabytes_in_a_cell_do_not_pile_up(tmp_path: Path, name: str) -> None:
    rows = [{"text": "a" * 10_000_000, "label": "x"}] * 3 + [Y] * 10
    content = "\n".join(map(json.dumps, rows)) if name == "rows.jsonl" else json.dumps(rows)
    sizes = [len(batch) for batch in batches(source(write(tmp_path, content, name)))]
    assert sum(sizes) == 13 and max(sizes[:2]) <= 2


def test_many_rows_come_in_batches(tmp_path: Path) -> None:
    rows = [{"text": str(number), "label": "x"} for number in range(10_000)]
    for name, content in (("rows.json", json.dumps(rows)), ("rows.jsonl", "\n".join(map(json.dumps, rows)))):
        found = list(batches(source(write(tmp_path, content, name))))
        assert [len(batch) for batch in found] == [4096, 4096, 1808]
        lines = [line for batch in found for line in batch.line]
        assert lines == ([1] * 10_000 if name == "rows.json" else list(range(1, 10_001)))


def test_lines_that_are_no_json_come_in_batches_too(tmp_path: Path) -> None:
    assert [len(batch) for batch in batches(source(write(tmp_path, "oops\n" * 5000, "rows.jsonl")))] == [4096, 904]
