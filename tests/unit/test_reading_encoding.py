"""Which encoding a file is read with, and bytes that do not decode."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.errors import DataError, JobFileError
from raysft.reading.encoding import encoding_of
from raysft.reading.sources import require_encoding
from tests.support.reading import details, read, source, write

GERMAN = ["Ich möchte mein Geld zurück", "Die Lieferung ist verspätet", "Wo bleibt die Bestellung für Müller?"]
RUSSIAN = ["Где моя посылка", "Верните деньги", "Не могу войти в свой счёт", "Карта не пришла"]
JAPANESE = ["荷物はどこですか", "返金してください", "カードが届きません", "ログインできないのですが"]


def table(texts: list[str]) -> str:
    return "text,label\n" + "".join(f"{text},x\n" for text in texts)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("texts", [GERMAN, RUSSIAN, JAPANESE], ids=["German", "Russian", "Japanese"])
def test_unicode_is_told_by_its_mark_and_is_utf8_without(tmp_path: Path, encoding: str, texts: list[str]) -> None:
    found = read(tmp_path, table(texts).encode(encoding))
    assert [row[1] for row in found] == texts
    assert encoding_of(source(tmp_path / "rows.csv")) == encoding.removesuffix("-sig")


@pytest.mark.parametrize(
    ("texts", "encoding"), [(GERMAN, "cp1252"), (RUSSIAN, "cp1251"), (JAPANESE, "shift_jis")], ids=["de", "ru", "ja"]
)
def test_a_file_that_is_clearly_something_else_is_read_as_that(tmp_path: Path, texts: list[str], encoding: str) -> None:
    texts = texts * 20
    found = read(tmp_path, table(texts).encode(encoding))
    assert [row[1] for row in found] == texts
    assert encoding_of(source(tmp_path / "rows.csv")) != "utf-8"


def test_dirt_in_a_utf8_file_rejects_rows_and_does_not_spoil_the_others(tmp_path: Path) -> None:
    good = [f"größe {number},x\n".encode() for number in range(20)]
    bad = [f"größe {number},x\n".encode("cp1252") for number in range(8)]
    found = read(tmp_path, b"text,label\n" + b"".join(good + bad))
    assert [row[3] for row in found] == [None] * 20 + ["not_utf8"] * 8
    assert found[0][1] == "größe 0"
    assert encoding_of(source(tmp_path / "rows.csv")) == "utf-8"


def test_a_named_encoding_is_obeyed(tmp_path: Path) -> None:
    assert read(tmp_path, table(["größe"]).encode("cp1252"), encoding="cp1252") == [(2, "größe", "x", None)]
    assert read(tmp_path, table(["größe"]).encode(), encoding="latin-1") == [(2, "grÃ¶Ã\x9fe", "x", None)]
    assert encoding_of(source(tmp_path / "rows.csv", encoding="Latin-1")) == "iso8859-1"


@pytest.mark.parametrize("name", ["utf-8", "UTF8", "utf-16-le", "utf-32-be"])
def test_a_mark_at_the_start_is_no_letter_of_the_header(tmp_path: Path, name: str) -> None:
    content = ("\ufeff" + table(["größe"])).encode(name)
    assert read(tmp_path, content, encoding=name) == [(2, "größe", "x", None)]


def test_a_byte_that_a_named_encoding_does_not_have_rejects_its_row(tmp_path: Path) -> None:
    found = read(tmp_path, b"text,label\na\x81b,x\nc,y\n", encoding="cp1252")
    assert found == [(2, "a\ufffdb", "x", "bad_bytes"), (3, "c", "y", None)]
    assert details(source(tmp_path / "rows.csv", encoding="cp1252"))[0] == "byte 0x81 in the text"


@pytest.mark.parametrize("name", ["latin-one", "base64", "rot13", "idna", "unicode_escape", "undefined", "a\x00b", "é"])
def test_an_encoding_that_is_none_is_refused_with_its_key(name: str) -> None:
    with pytest.raises(JobFileError, match=r"job\.yaml:3: data\.encoding: no encoding is called") as caught:
        require_encoding(name, "job.yaml:3")
    assert caught.value.problems[0].key == "data.encoding"


@pytest.mark.parametrize("name", ["auto", "AUTO", "utf8", "UTF-16", "cp1252", "shift_jis", "latin-1", "koi8-r"])
def test_known_encodings_are_accepted(name: str) -> None:
    require_encoding(name, "job.yaml:3")


def test_formats_that_hold_no_text_have_no_encoding(tmp_path: Path) -> None:
    assert encoding_of(source(tmp_path / "rows.parquet")) == ""
    with pytest.raises(DataError, match="empty"):
        encoding_of(source(write(tmp_path, "")))


@given(st.binary(max_size=200), st.sampled_from(["auto", "utf-8", "utf-16", "cp1252", "shift_jis", "utf-7", "gb18030"]))
def test_any_bytes_have_an_encoding_and_become_text_or_marks(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, encoding: str
) -> None:
    path = write(tmp_path_factory.getbasetemp(), b"text,label\n" + content)
    assert encoding_of(source(path, encoding=encoding))
