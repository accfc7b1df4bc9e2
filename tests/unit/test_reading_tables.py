"""Every row of a CSV or TSV file as people have it, with its line; what cannot be read is rejected, never lost."""

from __future__ import annotations

import csv
import io
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raysft.errors import DataError
from raysft.reading.batch import Columns
from raysft.reading.csv_rows import BLOCK
from raysft.reading.records import header
from tests.support.reading import batches, details, read, seen, source, write

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
HANDFUL = 7  # rows
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


CLEAN = [
    *(["plain {n}", "x{n}"], ['27" monitor {n}', "x"], ["said, {n}", "y"], ['the "great" {n}, or so', "y"]),
    *(["two\nlines {n}", "z"], ["a,b\nc,d\n\ne {n}", "z"], ["", "w{n}"], ["plain again {n}", ""]),
]
MALFORMED = [
    *(
        '"great" product,pos',
        '"hello there,pos',
        'hello,"pos',
        '"a" b, "c" d,pos',
        '"a, ""b"" c" d,pos',
        '"only a text',
    ),
    *(
        "one field",
        "three,whole,fields",
        '"a"b","c',
        'x,"y"z',
        '"a,""',
        '27" is, "wide,pos',
        '"',
        '""a,pos',
        'a "b" c",pos',
    ),
]


def table(rows: list[list[str]], malformed: dict[int, str]) -> tuple[str, list[tuple[int, str, str, None]], list[int]]:
    """A CSV file, the rows that stand in it and their lines, and the lines before which something malformed stands."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["text", "label"])
    line, expected, spoilt = 2, [], []
    for number, row in enumerate(rows):
        if number in malformed:
            stream.write(malformed[number] + "\n")
            spoilt.append(line)
            line += 1
        writer.writerow(row)
        expected.append((line, row[0], row[1], None))
        line += 1 + row[0].count("\n")
    return stream.getvalue(), expected, spoilt


@settings(max_examples=300)
@given(data=st.data(), block=st.sampled_from([1, 50, 333, 2000, BLOCK]))
def test_a_malformed_row_costs_a_handful_of_rows_around_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, block: int
) -> None:
    kinds = data.draw(st.lists(st.sampled_from(CLEAN), min_size=1, max_size=8))
    rows = [[cell.format(n=n) for cell in kinds[n % len(kinds)]] for n in range(data.draw(st.integers(20, 300)))]
    malformed = data.draw(st.dictionaries(st.integers(0, len(rows) - 1), st.sampled_from(MALFORMED), max_size=2))
    content, expected, spoilt = table(rows, malformed)
    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raysft.reading.csv_rows.BLOCK", block)
        patch.setattr("raysft.reading.csv_rows.AGAIN", max(block // 100, 1))
        found = read(folder, content)
    assert found == read(folder, content)  # wherever blocks end
    kept = [row for row in found if row[3] is None]
    lost = [row for row in expected if row not in set(kept)]
    assert len(lost) <= HANDFUL * len(spoilt)
    assert all(min(abs(row[0] - line) for line in spoilt) <= 4 * HANDFUL for row in lost)
    # What is kept besides the clean rows are malformed ones that can be read, such as a quote that stands somewhere.
    assert all(row[0] in spoilt for row in set(kept) - set(expected))


@settings(max_examples=500)
@given(content=st.text(st.sampled_from(list('ab ,\n""')), max_size=120), block=st.sampled_from([1, 20, BLOCK]))
def test_every_line_of_whatever_text_is_in_one_row(
    tmp_path_factory: pytest.TempPathFactory, content: str, block: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raysft.reading.csv_rows.BLOCK", block)
        found = read(folder, f"text,label\n{content}")
    assert found == read(folder, f"text,label\n{content}")
    said = details(source(folder / "rows.csv"))
    covered: list[int] = []
    for (line, text, label, reason), detail in zip(found, said, strict=True):
        to = re.search(r"header has 2, lines \d+ to (\d+)", detail)
        last = int(to[1]) if to else line + (0 if reason == "malformed_csv" and "\n" not in text else text.count("\n"))
        covered += range(line, last + label.count("\n") + 1)
    assert covered == sorted(set(covered))
    assert {line for line, text in enumerate(content.split("\n"), start=2) if text} <= set(covered)


@pytest.mark.parametrize("count", [1, 500, 5000, 30_000])
@pytest.mark.parametrize("second", ['27" monitor is bright,pos', 'a screen of 27",pos', '"unclosed again,pos'])
@pytest.mark.parametrize("first", ['"great" product,pos', '"hello there,pos', 'hello,"pos'])
def test_two_malformed_rows_cost_no_row_between_them(tmp_path: Path, first: str, second: str, count: int) -> None:
    clean = "".join(f"clean row {number},neg\n" for number in range(count))
    found = read(tmp_path, f"text,label\n{first}\n{clean}{second}\n" + "more,neg\n" * 20)
    kept = {row[0] for row in found if row[3] is None}
    if count > 1:
        assert kept >= {*range(3, count + 3), *range(count + 4, count + 24)} and 2 not in kept
    assert len(found) == count + 22 or (count == 1 and len(found) >= 20)


def test_a_quote_that_is_never_closed_costs_its_own_line(tmp_path: Path) -> None:
    found = read(tmp_path, 'text,label\na,x\nb,"y\nc,z\n\nd,w\n')
    assert found == [(2, "a", "x", None), (3, 'b,"y', "", "malformed_csv"), (4, "c", "z", None), (6, "d", "w", None)]
    assert details(source(tmp_path / "rows.csv"))[1] == "unexpected end of data; its quote was open up to line 6"


def test_a_stray_quote_costs_its_own_line_and_reading_goes_on(tmp_path: Path) -> None:
    found = read(tmp_path, 'text,label\n"a,x\nb "c",y\n"d"e,z\nf,w\n')
    assert [(row[0], row[3]) for row in found] == [(2, "malformed_csv"), (3, None), (4, "malformed_csv"), (5, None)]
    assert found[1][1:3] == ('b "c"', "y")


REST = {
    "its end": ('"a\n"b" c\nd",w\n', [2, 3, 4]),
    "its end, behind lines that look like rows": ('"a "b" c, d\ne, f\ng, h\ni",w\n', [2, 3, 4, 5]),
    "a line that looks like a row, then one that does not": ('"a, "b"\nc, d\ne\nf",w\n', [2, 3, 4, 5]),
    "its end without a quote": ('"a "b" c\nd.,w\n', [2, 3]),
    "its end with doubled quotes": ('"a "b" c, d\ne, f\n""g"" he said, and ""h""",w\n', [2, 3, 4]),
    "two bad quotes": ('"a "b"\nc, d\ne, f\n"g" h\ni",w\n', [2, 3, 4, 5, 6]),
}


@pytest.mark.parametrize(("content", "lines"), REST.values(), ids=REST)
def test_the_rest_of_a_field_that_was_cut_is_not_taken_for_a_row(
    tmp_path: Path, content: str, lines: list[int]
) -> None:
    found = read(tmp_path, f'text,label\n{content}k,v\n"l, m",u\n')
    assert [row[0] for row in found if row[3]] == lines
    assert found[-2:] == [(lines[-1] + 1, "k", "v", None), (lines[-1] + 2, "l, m", "u", None)]


def test_rows_that_one_quote_took_with_it_are_read_though_another_one_closes_it(tmp_path: Path) -> None:
    """By the letter of CSV all of it is one row."""
    found = read(tmp_path, 'text,label\n"a,x\n' + "b,y\n" * 120 + 'of 27",z\nc,w\n')
    assert [row[0] for row in found if row[3]] == [2] and found[-1] == (124, "c", "w", None)
    assert details(source(tmp_path / "rows.csv"))[0].startswith("a quote that seems not to be closed; its quote was")


@pytest.mark.parametrize(
    "text",
    [
        "Dear all, thanks\nfor it, again\nand bye",
        "a poem, it has\n" * 40 + "an end",
        "a poem, it has\n" * 200 + "an end, too",
        "sum up:\n" + "a,1\n" * 40 + "b,2",
    ],
)
def test_a_text_of_lines_with_commas_stays_one_row(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, f'text,label\n"{text}",x\nb,y\n')
    assert found == [(2, text, "x", None), (3 + text.count("\n"), "b", "y", None)]


def test_rows_behind_a_huge_unclosed_quote_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, most in (("MAX_FIELD", 100), ("MAX_LINES", 10), ("MAX_ROW", 100)):
        with monkeypatch.context() as patch:
            patch.setattr(f"raysft.reading.csv_rows.{limit}", most)
            found = read(tmp_path, 'text,label\n"a,x\n' + "b,y\n" * 50)
        assert found == [(2, '"a,x', "", "malformed_csv"), *((line, "b", "y", None) for line in range(3, 53))]


def test_a_quote_that_is_never_closed_does_not_take_the_file_into_memory(tmp_path: Path) -> None:
    path = write(tmp_path, 'text,label\n"a,x\n' + f"{'b' * 2000},y\n" * 30_000)
    tracemalloc.start()
    try:
        count = sum(len(batch) for batch in batches(source(path)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 30_001
    assert peak < 40_000_000 < path.stat().st_size


def test_a_quote_inside_a_field_is_a_letter(tmp_path: Path) -> None:
    assert read(tmp_path, 'text,label\na 5" screen,x\n') == [(2, 'a 5" screen', "x", None)]


def test_a_line_end_of_old_macs_inside_a_line_does_not_make_two_rows(tmp_path: Path) -> None:
    found = read(tmp_path, "text,label\na\rb,x\nc,y\n")
    assert [(row[0], row[3]) for row in found] == [(2, "malformed_csv"), (3, None)]


def test_nul_bytes_unicode_separators_and_huge_fields_are_read(tmp_path: Path) -> None:
    huge = "ab\n" * 100_000
    found = read(tmp_path, f'text,label\nn\x00ul\u2028\x85\x0b\x1c,x\n"{huge}",y\nz,w\n')
    assert found[0] == (2, "n\x00ul\u2028\x85\x0b\x1c", "x", None)
    assert found[1][1] == huge
    assert found[2:] == [(3 + 100_001, "z", "w", None)]


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
