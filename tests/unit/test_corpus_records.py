"""Every row of a file as people have it, with its exact line; what cannot be read is one rejected row, never lost."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raysft.corpus.records import Columns, RawRow, expand, header, read_rows
from raysft.corpus.rows import tables_of
from raysft.errors import DataError, NotFound

BOTH = Columns("text", "label")
LINE_END = re.compile(r"\r\n|\r|\n")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
QUIRKS = st.text(st.sampled_from(list("a ,;|\t\"'\r\n\x00\x85\u2028é🙂")), max_size=12)


def write(folder: Path, content: str | bytes, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(folder: Path, content: str | bytes, name: str = "rows.csv", columns: Columns = BOTH) -> list[RawRow]:
    return list(read_rows(write(folder, content, name), columns))


def short(rows: list[RawRow]) -> list[tuple[int, str, str, str | None]]:
    return [(row.line, row.text, row.label, row.reason) for row in rows]


# --- whatever the csv module writes is read back


@given(
    rows=st.lists(st.tuples(QUIRKS | TEXT, QUIRKS | TEXT), max_size=6),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    cut=st.booleans(),
)
@example(rows=[('a\nb "c", d\r\n', "x"), ("", ""), ("e", "\r")], delimiter=",", quoting=0, encoding="utf-8", cut=True)
def test_written_rows_are_read_back_equal_with_their_lines(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    delimiter: str,
    quoting: int,
    encoding: str,
    cut: bool,
) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["text", "label"])
    expected = []
    for row in rows:
        expected.append((len(LINE_END.findall(stream.getvalue())) + 1, *row, None))
        writer.writerow(row)
    content = stream.getvalue().removesuffix("\r\n") if cut else stream.getvalue()
    folder = tmp_path_factory.getbasetemp()
    assert short(read(folder, content.encode(encoding))) == expected
    assert header(folder / "rows.csv") == ["text", "label"]


@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["text", "label", "more"]), TEXT | st.none() | st.integers()), max_size=6
    )
)
def test_written_json_lines_are_read_back_equal_with_their_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str | int | None]]
) -> None:
    lines = [json.dumps(row, ensure_ascii=index % 2 == 0) for index, row in enumerate(rows)]
    found = read(tmp_path_factory.getbasetemp(), "\n\n".join(lines), "rows.jsonl")
    words = [["" if row.get(key) is None else str(row[key]) for key in ("text", "label")] for row in rows]
    assert short(found) == [(2 * index + 1, *each, None) for index, each in enumerate(words)]


@given(st.sampled_from([b"text,label\n", b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"]), st.binary(max_size=80))
@example(b"\xff\xfe", "text,label\n".encode("utf-16-le") + b"\x00\xd8a\x00")
@example(b"", b'{"text": "half an emoji \\ud83d", "label": "x"}')
@example(b"", b"[" * 5000)
@example(b"", b'"')
def test_no_bytes_stop_the_reading_and_lines_grow(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes
) -> None:
    for name in ("rows.csv", "rows.tsv", "rows.jsonl"):
        path = write(tmp_path_factory.getbasetemp(), start + rest, name)
        names = header(path)
        if names:
            columns = Columns(names[0], None)
            tables = list(tables_of(path, "train", columns))
            lines = [line for table in tables for line in table.column("line").to_pylist()]
            assert all(a < b for a, b in pairwise(lines))


# --- tables as people have them

SAME = {
    "plain": "text,label\na,x\nb,y\n",
    "Windows line ends": "text,label\r\na,x\r\nb,y\r\n",
    "old Mac line ends": "text,label\ra,x\rb,y\r",
    "no end of the last line": "text,label\na,x\nb,y",
    "byte order mark": "\ufefftext,label\na,x\nb,y\n",
    "semicolons": "text;label\na;x\nb;y\n",
    "tabs in a .csv": "text\tlabel\na\tx\nb\ty\n",
    "bars": "text|label\na|x\nb|y\n",
    "everything in quotes": '"text","label"\n"a","x"\n"b","y"\n',
    "quotes and semicolons": '"text";"label"\n"a";"x"\n"b";"y"\n',
    "another order, more columns": "id,label,text\n1,x,a\n2,y,b\n",
    "spaces in the header": "text , label\na,x\nb,y\n",
    "comma inside the header": 'text;label;"of, what"\na;x;1\nb;y;2\n',
}


@pytest.mark.parametrize("content", SAME.values(), ids=SAME)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_same_two_rows(tmp_path: Path, content: str, encoding: str) -> None:
    content = content.removeprefix("\ufeff") if encoding == "utf-16" else content
    assert short(read(tmp_path, content.encode(encoding))) == [(2, "a", "x", None), (3, "b", "y", None)]


def test_blank_lines_are_no_rows_and_count_as_lines(tmp_path: Path) -> None:
    found = read(tmp_path, "\n\ntext,label\n\na,x\n\n\nb,y\n\n")
    assert short(found) == [(5, "a", "x", None), (8, "b", "y", None)]
    assert header(tmp_path / "rows.csv") == ["text", "label"]


def test_only_commas_split_where_the_header_has_commas(tmp_path: Path) -> None:
    assert short(read(tmp_path, "text,label\na;b|c\td,x\n")) == [(2, "a;b|c\td", "x", None)]


def test_only_tabs_split_a_tsv(tmp_path: Path) -> None:
    assert short(read(tmp_path, "text\tlabel\na,b;c\tx\n", "rows.tsv")) == [(2, "a,b;c", "x", None)]


def test_a_row_with_other_fields_than_the_header_is_rejected_alone(tmp_path: Path) -> None:
    found = read(tmp_path, "text,label\na,x\nb\nc,y,z\nd,w\n")
    assert [row.reason for row in found] == [None, "wrong_field_count", "wrong_field_count", None]
    assert [row.line for row in found] == [2, 3, 4, 5]
    assert found[2].detail == "3 fields, the header has 2" and found[2].text == "c,y,z"


def test_a_cp1252_byte_rejects_its_row_only(tmp_path: Path) -> None:
    found = read(tmp_path, b"text,label\nfine,x\ncaf\xe9,y\nna\xc3\xafve,z\n")
    assert [(row.line, row.text, row.reason) for row in found] == [
        (2, "fine", None),
        (3, "caf\ufffd", "not_utf8"),
        (4, "naïve", None),
    ]
    assert found[1].detail == "in the text" and found[1].label == "y"


def test_a_bad_byte_in_a_column_that_does_not_count_is_no_harm(tmp_path: Path) -> None:
    assert short(read(tmp_path, b"text,label,note\na,x,caf\xe9\n")) == [(2, "a", "x", None)]


def test_a_bad_byte_in_label_or_group_is_named(tmp_path: Path) -> None:
    found = read(tmp_path, b"text,label,group\na,\xff,c\nb,y,\xff\n", columns=Columns("text", "label", "group"))
    assert [row.detail for row in found] == ["in the label", "in the group"]


def test_utf_16_cut_in_the_middle_costs_its_last_row_only(tmp_path: Path) -> None:
    found = read(tmp_path, "text,label\na,x\nb,y\nc,z".encode("utf-16")[:-1])
    assert short(found)[:2] == [(2, "a", "x", None), (3, "b", "y", None)]
    assert [row.reason for row in found[2:]] == ["not_utf8"]


def test_a_quote_that_is_never_closed_is_rejected_and_says_what_it_swallowed(tmp_path: Path) -> None:
    found = read(tmp_path, 'text,label\na,x\nb,"y\nc,z\nd,w\n')
    assert short(found)[0] == (2, "a", "x", None)
    assert len(found) == 2
    assert (found[1].line, found[1].reason) == (3, "malformed_csv")
    assert "lines 3 to 5" in found[1].detail


def test_a_stray_quote_costs_the_rows_it_touches_and_reading_goes_on(tmp_path: Path) -> None:
    found = read(tmp_path, 'text,label\n"a,x\nb "c",y\n"d"e,z\nf,w\n')
    assert [(row.line, row.reason) for row in found] == [(2, "malformed_csv"), (4, "malformed_csv"), (5, None)]
    assert found[-1].text == "f"


def test_a_quote_inside_a_field_is_a_letter(tmp_path: Path) -> None:
    assert short(read(tmp_path, 'text,label\na 5" screen,x\n')) == [(2, 'a 5" screen', "x", None)]


def test_nul_bytes_and_huge_fields_are_read(tmp_path: Path) -> None:
    huge = "ab\n" * 500_000
    found = read(tmp_path, f'text,label\nn\x00ul,x\n"{huge}",y\nz,w\n')
    assert short(found[:1]) == [(2, "n\x00ul", "x", None)]
    assert found[1].text == huge
    assert short(found[2:]) == [(3 + 500_001, "z", "w", None)]


def test_columns_that_are_not_asked_for_stay_empty(tmp_path: Path) -> None:
    found = read(tmp_path, "text,label,group\na,x,c\n", columns=Columns("text", None))
    assert found == [RawRow(2, "a", "", "")]
    assert read(tmp_path, "text,label,group\na,x,c\n", columns=Columns("text", "label", "group"))[0].group == "c"


def test_an_empty_file_has_no_header_and_no_rows(tmp_path: Path) -> None:
    for content in ("", "\ufeff", "\n\n"):
        assert header(write(tmp_path, content)) == []
    assert read(tmp_path, "text,label\n") == []


# --- JSON lines


def test_json_values_become_words(tmp_path: Path) -> None:
    lines = [
        '{"text": "a", "label": 3}',
        '{"text": "b", "label": 3.5}',
        '{"text": "c", "label": true}',
        '{"text": "d", "label": null}',
        '{"text": "e"}',
        '{"text": ["f"], "label": {"g": "ü"}}',
    ]
    found = read(tmp_path, "\n".join(lines), "rows.ndjson")
    assert [(row.text, row.label) for row in found] == [
        ("a", "3"),
        ("b", "3.5"),
        ("c", "true"),
        ("d", ""),
        ("e", ""),
        ('["f"]', '{"g": "ü"}'),
    ]


def test_a_line_that_is_no_json_object_is_rejected_alone(tmp_path: Path) -> None:
    lines = [
        '{"text": "a", "label": "x"}',
        "oops",
        '["b"]',
        "null",
        '{"text": "c"',
        "[" * 5000,
        '{"text": "d", "label": "y"}',
    ]
    found = read(tmp_path, "\n".join(lines), "rows.jsonl")
    assert [row.reason for row in found] == [None, *["malformed_json"] * 5, None]
    assert [row.line for row in found] == [1, 2, 3, 4, 5, 6, 7]
    assert found[1].text == "oops"


def test_half_an_emoji_in_json_rejects_its_row_only(tmp_path: Path) -> None:
    """JavaScript cuts texts in the middle of an emoji; Arrow and the tokenizer cannot hold the half."""
    path = write(
        tmp_path, '{"text": "cut \\ud83d", "label": "x"}\n{"text": "whole \\ud83d\\ude42", "label": "y"}', "a.jsonl"
    )
    (table,) = tables_of(path, "train", BOTH)
    assert [(row["text"], row["reason"]) for row in table.to_pylist()] == [
        ("cut \ufffd", "not_utf8"),
        ("whole 🙂", None),
    ]


def test_a_bad_byte_in_json_rejects_its_row_only(tmp_path: Path) -> None:
    found = read(tmp_path, b'{"text": "caf\xe9", "label": "x"}\n{"text": "b", "label": "y"}\n', "rows.jsonl")
    assert [row.reason for row in found] == ["not_utf8", None]


def test_the_columns_of_json_lines_are_the_keys_of_the_first_hundred_rows(tmp_path: Path) -> None:
    lines = ['{"text": "a"}', "oops", *['{"label": "x"}'] * 98, '{"late": 1}']
    assert header(write(tmp_path, "\n".join(lines), "rows.jsonl")) == ["text", "label"]


# --- which files


def test_patterns_become_sorted_files_without_repeats(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "deep/c.tsv", "d.jsonl", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path, "", name)
    found = expand(["*.csv", "a.csv", "**/c.*", str(tmp_path / "d.jsonl")], tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.csv", "b.csv", "deep/c.tsv", "d.jsonl"]


@pytest.mark.parametrize("name", ["a[b].csv", "what?.csv", "star*.csv", "~nobody.csv", "UPPER.CSV", "-dash.csv"])
def test_a_file_with_an_odd_name_is_itself(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "", name)
    assert expand([name], tmp_path) == [path]


def test_the_folder_of_the_job_is_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "jobs [1] *"
    folder.mkdir()
    path = write(folder, "", "a.csv")
    assert expand(["*.csv"], folder) == expand(["a.csv"], folder) == [path]


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path, "", "rows.csv")
    write(tmp_path, "", "notes.txt")
    with pytest.raises(NotFound, match=r"rowz\.csv") as caught:
        expand(["rowz.csv"], tmp_path)
    assert "rows.csv" in caught.value.next_step and "notes.txt" not in caught.value.next_step
    with pytest.raises(NotFound) as caught:
        expand(["no/such/*.csv"], tmp_path)
    assert "does not exist" in caught.value.next_step


@pytest.mark.parametrize("name", ["rows.xlsx", "rows", "rows.csv.gz"])
def test_a_kind_that_is_not_read_is_refused_wherever_it_is_met(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "text,label\n", name)
    with pytest.raises(DataError, match="cannot read") as caught:
        expand([name], tmp_path)
    assert ".csv, .tsv, .jsonl, .ndjson" in caught.value.next_step
    with pytest.raises(DataError, match="cannot read"):
        header(path)
