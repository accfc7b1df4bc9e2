"""Every row of a CSV or TSV file as people have it, with its line; what cannot be read is rejected, never lost."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raysft.errors import DataError
from raysft.reading.batch import Columns
from raysft.reading.records import header
from raysft.reading.tables import BLOCK
from tests.support.reading import batches, details, read, seen, source, write

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
QUIRKS = st.text(st.sampled_from(list("a ,;|\t\"'\r\n\x00\x85\u2028é🙂")), max_size=12)


@given(
    rows=st.lists(st.tuples(QUIRKS | TEXT, QUIRKS | TEXT), max_size=6),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
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
        expected.append((stream.getvalue().count("\n") + 1, *row, None))
        writer.writerow(row)
    content = stream.getvalue().removesuffix("\r\n") if cut and rows else stream.getvalue()
    folder = tmp_path_factory.getbasetemp()
    assert read(folder, content.encode(encoding)) == expected
    assert header(source(folder / "rows.csv")) == ["text", "label"]


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
    assert read(tmp_path, content.encode(encoding)) == [(2, "a", "x", None), (3, "b", "y", None)]


def test_blank_lines_are_no_rows_and_count_as_lines(tmp_path: Path) -> None:
    found = read(tmp_path, "\n\ntext,label\n\na,x\n\n\nb,y\n\n")
    assert found == [(5, "a", "x", None), (8, "b", "y", None)]
    assert header(source(tmp_path / "rows.csv")) == ["text", "label"]


def test_only_commas_split_where_the_header_has_commas(tmp_path: Path) -> None:
    assert read(tmp_path, "text,label\na;b|c\td,x\n") == [(2, "a;b|c\td", "x", None)]


def test_only_tabs_split_a_tsv(tmp_path: Path) -> None:
    assert read(tmp_path, "text\tlabel\na,b;c\tx\n", "rows.tsv") == [(2, "a,b;c", "x", None)]


def test_a_row_with_other_fields_than_the_header_is_rejected_alone(tmp_path: Path) -> None:
    found = read(tmp_path, "text,label\na,x\nb\nc,y,z\nd,w\n")
    assert [row[3] for row in found] == [None, "wrong_field_count", "wrong_field_count", None]
    assert [row[0] for row in found] == [2, 3, 4, 5]
    assert found[2][1] == "c,y,z"
    assert details(source(tmp_path / "rows.csv"))[2] == "3 fields, the header has 2"


def test_a_cp1252_byte_rejects_its_row_only(tmp_path: Path) -> None:
    found = read(tmp_path, b"text,label\nfine,x\ncaf\xe9,y\nna\xc3\xafve,z\n")
    assert found == [(2, "fine", "x", None), (3, "caf\ufffd", "y", "not_utf8"), (4, "naïve", "z", None)]
    assert details(source(tmp_path / "rows.csv"))[1] == "byte 0xE9 in the text"


def test_a_bad_byte_in_a_column_that_does_not_count_is_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path, b"text,label,note\na,x,caf\xe9\n") == [(2, "a", "x", None)]


def test_a_bad_byte_in_label_or_group_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, b"text,label,group\na,\xff,c\nb,y,\xff\n")
    said = details(source(path), Columns("text", "label", group="group"))
    assert said == ["byte 0xFF in the label", "byte 0xFF in the group"]


def test_utf_16_cut_in_the_middle_costs_its_last_row_only(tmp_path: Path) -> None:
    found = read(tmp_path, "text,label\na,x\nb,y\nc,z".encode("utf-16")[:-1])
    assert found[:2] == [(2, "a", "x", None), (3, "b", "y", None)]
    assert [row[3] for row in found[2:]] == ["not_utf8"]


def test_a_quote_that_is_never_closed_rejects_every_line_it_took_with_it(tmp_path: Path) -> None:
    """One row would hide that the rest of the file is gone from the share of rejected rows."""
    found = read(tmp_path, 'text,label\na,x\nb,"y\nc,z\n\nd,w\n')
    assert found == [
        (2, "a", "x", None),
        (3, 'b,"y', "", "malformed_csv"),
        (4, "c,z", "", "malformed_csv"),
        (6, "d,w", "", "malformed_csv"),
    ]
    assert all(said.endswith("lines 3 to 6") for said in details(source(tmp_path / "rows.csv"))[1:])


def test_a_stray_quote_costs_the_lines_it_touches_and_reading_goes_on(tmp_path: Path) -> None:
    found = read(tmp_path, 'text,label\n"a,x\nb "c",y\n"d"e,z\nf,w\n')
    assert [(row[0], row[3]) for row in found] == [*((line, "malformed_csv") for line in (2, 3, 4)), (5, None)]
    assert found[-1][1] == "f"


def test_the_rest_of_a_field_that_was_cut_is_not_taken_for_a_row(tmp_path: Path) -> None:
    found = read(tmp_path, 'text,label\na,"y\n"d\ne",w\nf,v\n')
    assert [(row[0], row[3]) for row in found] == [*((line, "malformed_csv") for line in (2, 3, 4)), (5, None)]


def test_lines_that_may_be_inside_a_field_are_rejected_until_it_is_clear_that_they_are_not(tmp_path: Path) -> None:
    """A damaged quote in line 2 makes it look as if the field of line 4 ended where it begins."""
    inside = 'text,label\n"a\nb.,y\n"c\nd,e\nf",w\ng,v\n'
    assert [row[0] for row in read(tmp_path, inside) if row[3] is None] == [7]
    outside = 'text,label\n"a\nb.,y\n"c",x\nd,e\n"f, g",w\n'
    assert [row[:2] for row in read(tmp_path, outside) if row[3] is None] == [(5, "d"), (6, "f, g")]


def test_rows_behind_a_huge_unclosed_quote_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysft.reading.tables.MAX_FIELD", 100)
    found = read(tmp_path, 'text,label\n"a,x\n' + "b,y\n" * 50)
    assert len(found) == 51
    assert [row[3] for row in found[-10:]] == [None] * 10
    assert found[0][3] == "malformed_csv"


def test_a_row_of_too_many_lines_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysft.reading.tables.MAX_LINES", 10)
    found = read(tmp_path, 'text,label\n"a,x\n' + "b,y\n" * 50)
    assert len(found) == 51
    assert found[-1] == (52, "b", "y", None)


def test_a_quote_inside_a_field_is_a_letter(tmp_path: Path) -> None:
    assert read(tmp_path, 'text,label\na 5" screen,x\n') == [(2, 'a 5" screen', "x", None)]


def test_a_line_end_of_old_macs_inside_a_line_does_not_make_two_rows(tmp_path: Path) -> None:
    found = read(tmp_path, "text,label\na\rb,x\nc,y\n")
    assert [(row[0], row[3]) for row in found] == [(2, "malformed_csv"), (3, None)]


def test_nul_bytes_unicode_separators_and_huge_fields_are_read(tmp_path: Path) -> None:
    huge = "ab\n" * 500_000
    found = read(tmp_path, f'text,label\nn\x00ul\u2028\x85\x0b\x1c,x\n"{huge}",y\nz,w\n')
    assert found[0] == (2, "n\x00ul\u2028\x85\x0b\x1c", "x", None)
    assert found[1][1] == huge
    assert found[2:] == [(3 + 500_001, "z", "w", None)]


def test_ten_megabytes_in_a_cell_do_not_pile_up(tmp_path: Path) -> None:
    path = write(tmp_path, "text,label\n" + f"{'a' * 10_000_000},x\n" * 3 + "b,y\n" * 10)
    assert [len(batch) for batch in batches(source(path))] == [1, 1, 1, 10]


def test_lines_stay_right_over_many_blocks(tmp_path: Path) -> None:
    """Blocks of simple rows and blocks of rows with many lines take different ways."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["text", "label"])
    expected = []
    line = 2
    for number in range(30_000):
        text = f"a\nb {number}" if number % 9000 == 8999 else f"simple {number}, with a comma"
        writer.writerow([text, "x"])
        expected.append((line, text, "x", None))
        line += 1 + text.count("\n")
    assert len(stream.getvalue()) > BLOCK
    assert read(tmp_path, stream.getvalue()) == expected


def test_a_column_name_that_stands_there_twice_is_refused_where_it_counts(tmp_path: Path) -> None:
    path = write(tmp_path, "text,label,note,note\na,x,1,2\n")
    assert seen(source(path)) == [(2, "a", "x", None)]
    with pytest.raises(DataError, match="2 columns are called 'note'"):
        seen(source(path), Columns("text", "note"))
    with pytest.raises(DataError, match=r"no column 'intent'.*text, label, note, note"):
        seen(source(path), Columns("text", "intent"))


def test_a_file_without_a_row(tmp_path: Path) -> None:
    for content in ("", "\ufeff", "\n\n"):
        with pytest.raises(DataError, match="the file is empty"):
            header(source(write(tmp_path, content)))
    assert read(tmp_path, "text,label\n") == []
