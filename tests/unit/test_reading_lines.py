"""Parallel line files: line n of one belongs to line n of the other, whatever stands in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.errors import DataError
from raysft.reading.batch import Columns
from raysft.reading.records import header
from raysft.reading.sources import Source, fingerprint, size_bytes
from tests.support.reading import BOTH, CORPORA, NO_CORPORA, details, seen, write

LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=20).map(
    lambda text: text.removesuffix("\r").removeprefix("\ufeff")
)


def pair(folder: Path, texts: str | bytes, labels: str | bytes) -> Source:
    text, label = write(folder, texts, "seq.in"), write(folder, labels, "label")
    return Source("train", str(text), "lines", str(label))


@given(st.lists(st.tuples(LINE, LINE), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_written_lines_are_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], end: str, last: bool
) -> None:
    """Also with U+2028, \\x85 and other separators in them. A blank line is a row: the ones behind it must not move."""
    columns = ["".join(row[at] + end for row in rows) for at in (0, 1)]
    if not last and rows[-1][0] and rows[-1][1]:
        columns = [column.removesuffix(end) for column in columns]
    found = seen(pair(tmp_path_factory.getbasetemp(), *columns))
    lines = [tuple(cell.rstrip("\r") if cell.endswith("\r") else cell for cell in row) for row in rows]
    assert found == [(number, *row, None) for number, row in enumerate(lines, start=1)]


@pytest.mark.parametrize(
    ("texts", "labels", "counts"), [(5, 3, (5, 3)), (3, 5, (3, 5)), (2, 0, (2, 0)), (0, 2, (0, 2))]
)
def test_unequal_files_are_refused_with_both_counts(
    tmp_path: Path, texts: int, labels: int, counts: tuple[int, int]
) -> None:
    of = pair(tmp_path, "a\n" * texts or "\ufeff", "x\n" * labels or "\ufeff")
    with pytest.raises(DataError, match=f"seq.in has {texts} lines and .*label has {labels} lines"):
        seen(of)


def test_a_bad_byte_rejects_its_row_only(tmp_path: Path) -> None:
    of = pair(tmp_path, b"a\ncaf\xe9\nc\n", b"x\ny\n\xff\n")
    assert [row[3] for row in seen(of)] == [None, "not_utf8", "not_utf8"]
    assert details(of)[1:] == ["byte 0xE9 in the text", "byte 0xFF in the label"]


def test_both_files_count(tmp_path: Path) -> None:
    of = pair(tmp_path, "a\n", "x\n")
    before = fingerprint(of)
    assert header(of) == ["text", "label"] and size_bytes(of) == 4
    assert seen(of, Columns("utterance", "intent")) == [(1, "a", "x", None)]
    write(tmp_path, "y\n", "label")
    assert fingerprint(of) != before


def test_texts_alone_can_be_read(tmp_path: Path) -> None:
    of = Source("test", str(write(tmp_path, "a\nb\n", "seq.in")), "lines")
    assert [row[:2] for row in seen(of, Columns("text", None))] == [(1, "a"), (2, "b")]
    assert header(of) == ["text"]


@pytest.mark.skipif(not CORPORA.is_dir(), reason=NO_CORPORA)
@pytest.mark.parametrize(("part", "rows"), [("train", 8622), ("valid", 1540), ("test", 3080), ("train_5", 385)])
def test_a_real_corpus(part: str, rows: int) -> None:
    folder = CORPORA / "banking77_fewshot" / "Datasets" / "BANKING77" / part
    found = seen(Source("train", str(folder / "seq.in"), "lines", str(folder / "label")), BOTH)
    assert len(found) == rows and all(text and label and reason is None for _, text, label, reason in found)
