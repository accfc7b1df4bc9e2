"""Which encoding a file is read with, and bytes that do not decode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysft.errors import DataError, JobFileError
from raysft.events import Silent
from raysft.preparation.announce import announce
from raysft.reading.encoding import encoding_of
from raysft.reading.guessing import Guess, guess_wide
from raysft.reading.sources import Source, require_encoding
from tests.support.reading import details, read, source, write

GERMAN = ["Ich möchte mein Geld zurück", "Die Lieferung ist verspätet", "Wo bleibt die Bestellung für Müller?"]
FRENCH = ["Où est mon colis déjà payé ?", "Je n'ai pas reçu ma commande", "Le prélèvement a été refusé"]
PORTUGUESE = ["Não recebi a atualização", "Onde está a minha encomenda?", "A transação não é minha"]
POLISH = ["Gdzie jest moja paczka i kiedy będzie", "Proszę o zwrot pieniędzy", "Płatność została odrzucona"]
TURKISH = ["Siparişim nerede şimdi", "Paramı geri istiyorum", "Hesabıma giriş yapamıyorum"]
RUSSIAN = ["Где моя посылка", "Верните деньги", "Не могу войти в свой счёт", "Карта не пришла"]
JAPANESE = ["荷物はどこですか", "返金してください", "カードが届きません", "ログインできないのですが"]


class Heard(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def table(texts: list[str]) -> str:
    return "text,label\n" + "".join(f"{text},x\n" for text in texts)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("texts", [GERMAN, RUSSIAN, JAPANESE], ids=["German", "Russian", "Japanese"])
def test_unicode_is_told_by_its_mark_and_is_utf8_without(tmp_path: Path, encoding: str, texts: list[str]) -> None:
    found = read(tmp_path, table(texts).encode(encoding))
    assert [row[1] for row in found] == texts
    assert encoding_of(source(tmp_path / "rows.csv")) == encoding.removesuffix("-sig")


LEGACY = [
    (FRENCH, ["cp1252", "cp850", "mac-roman"]),
    (PORTUGUESE, ["cp1252", "cp850"]),
    (GERMAN, ["cp1252", "cp850", "mac-roman"]),
    (POLISH, ["cp1250", "iso8859-2", "cp852"]),
    (TURKISH, ["cp1254", "cp857"]),
    (RUSSIAN, ["cp1251", "koi8-r", "cp866", "iso8859-5"]),
    (JAPANESE, ["cp932", "euc_jp"]),
]
CASES = [pytest.param(texts, name, id=f"{texts[0].split()[0]}-{name}") for texts, names in LEGACY for name in names]


@pytest.mark.parametrize(("texts", "encoding"), CASES)
@pytest.mark.parametrize("times", [1, 75])
def test_a_file_that_is_clearly_something_else_is_read_as_that(
    tmp_path: Path, texts: list[str], encoding: str, times: int
) -> None:
    found = read(tmp_path, table(texts * times).encode(encoding))
    assert [row[1] for row in found] == texts * times
    assert encoding_of(source(tmp_path / "rows.csv")) == f"{encoding} (guessed)"


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r"])
@pytest.mark.parametrize("word", ["заказ", "Заказ"])
def test_lines_that_are_nearly_the_same_are_read_right_and_said_to_be_doubtful(
    tmp_path: Path, word: str, encoding: str
) -> None:
    texts = [f"{word} {number}" for number in range(40)]
    found = read(tmp_path, table(texts).encode(encoding))
    assert [row[1] for row in found] == texts
    assert encoding_of(source(tmp_path / "rows.csv")).startswith(f"{encoding} (guessed, perhaps ")


@pytest.mark.parametrize("text", ["You owe me £{}", "It was {} €", "I don’t know “where” it is {}", "at the café {}"])
def test_rare_signs_in_english_are_western(tmp_path: Path, text: str) -> None:
    texts = [text.format(number) for number in range(20)]
    assert [row[1] for row in read(tmp_path, table(texts).encode("cp1252"))] == texts


@pytest.mark.parametrize("encoding", ["cp1252", "cp850"])
def test_a_document_on_one_line_is_something_else_too(tmp_path: Path, encoding: str) -> None:
    document = json.dumps([{"text": text, "label": "x"} for text in GERMAN], ensure_ascii=False)
    assert [row[1] for row in read(tmp_path, document.encode(encoding), "rows.json")] == GERMAN
    assert encoding_of(source(tmp_path / "rows.json")) == f"{encoding} (guessed)"


def test_a_file_of_old_mac_lines_is_something_else_too(tmp_path: Path) -> None:
    found = read(tmp_path, table(GERMAN).replace("\n", "\r").encode("mac-roman"))
    assert [row[1] for row in found] == GERMAN


def test_two_bad_places_are_dirt(tmp_path: Path) -> None:
    found = read(tmp_path, b"text,label\ncaf\xe9,x\nna\xefve,x\ngood,y\n")
    assert [row[3] for row in found] == ["not_utf8", "not_utf8", None]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("texts", [GERMAN, RUSSIAN, JAPANESE], ids=["German", "Russian", "Japanese"])
def test_wide_letters_without_a_mark_are_told_by_their_zeros(tmp_path: Path, encoding: str, texts: list[str]) -> None:
    assert [row[1] for row in read(tmp_path, table(texts).encode(encoding))] == texts
    assert encoding_of(source(tmp_path / "rows.csv")) == f"{encoding} (guessed)"


def test_zeros_anywhere_do_not_make_utf16(tmp_path: Path) -> None:
    read(tmp_path, "text,label\n" + "a\0\0b,x\na\0b,y\n" * 20)
    assert encoding_of(source(tmp_path / "rows.csv")) == "utf-8"


def test_each_of_two_parallel_files_is_told(tmp_path: Path) -> None:
    texts = write(tmp_path, "\n".join(["plain", "words", "only"]), "texts.txt")
    labels = write(tmp_path, "\n".join(GERMAN).encode("cp1252"), "labels.txt")
    assert encoding_of(Source("train", str(texts), "lines", str(labels))) == "utf-8, labels cp1252 (guessed)"


def test_a_guess_is_announced_with_what_to_do_and_a_name_is_not() -> None:
    names = [*["utf-8", "cp1252", "utf-16"], *["cp1252 (guessed)"] * 5, "koi8-r (guessed, perhaps cp1251)"]
    audit = {
        "columns": {"guessed": []},
        "sources": [{"path": f"{number}.csv", "encoding": name} for number, name in enumerate(names)],
        "rows": {"read": 1, "kept": 1, "rejected": {}, "quarantined": {}},
        "parts": {"train": 1},
        "labels": {},
        "findings": [],
        "proof": [],
    }
    heard = Heard()
    announce(audit, None, heard)
    advice = "Look whether the texts read right; if not, name the encoding with data.encoding."
    assert heard.warnings == [
        f"3.csv, 4.csv, 5.csv and 2 more: not UTF-8, read as cp1252 (guessed). {advice}",
        f"8.csv: not UTF-8, read as koi8-r (guessed, perhaps cp1251). {advice}",
    ]


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


def test_stray_zeros_do_not_make_a_file_of_single_bytes_utf_16(tmp_path: Path) -> None:
    content = b"text,label\n" + b"".join(b"h\0llo,p\n" + b"x" * (row % 2) for row in range(40))
    assert guess_wide(content) is None
    assert guess_wide("text,label\nпривет как дела,pos\n".encode("utf-16-be")) == Guess("utf-16-be")
