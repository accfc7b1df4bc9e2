"""Files as streams: packed files whose name does not say so, and which of two layers an error came from."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pytest

from raysft.errors import DataError, NotAllowed, NotFound, RaysftError
from raysft.reading import streams
from tests.support.reading import read, seen, source, write

ROWS = b"text,label\n" + b"".join(b"message number %d,x\n" % (number * 7919) for number in range(50_000))


def zipped(content: bytes) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("rows.csv", content)
        return file.getvalue()


@pytest.mark.parametrize(
    ("pack", "what", "advice"),
    [
        (gzip.compress, "gzip", r"Name it rows\.csv\.gz"),
        (bz2.compress, "bzip2", r"Name it rows\.csv\.bz2"),
        (lzma.compress, "xz", "Unpack it"),
        (zipped, "a zip archive or an Excel file", "save the table as CSV"),
        (lambda _: b"\x28\xb5\x2f\xfd and so on", "zstd", r"Name it rows\.csv\.zst"),
    ],
)
def test_a_packed_file_whose_name_does_not_say_so_is_refused(tmp_path: Path, pack: Any, what: str, advice: str) -> None:
    with pytest.raises(DataError, match=rf"rows\.csv: this is {what}, not text\n.*{advice}"):
        read(tmp_path, pack(ROWS[:100]))


def test_a_text_that_begins_like_a_packed_file_is_text(tmp_path: Path) -> None:
    assert read(tmp_path, "PK,text,label\n1,BZh9,x\n") == [(2, "BZh9", "x", None)]


class Failing(io.BytesIO):
    """A stored file whose reading fails on the way."""

    def __init__(self, content: bytes, error: Exception) -> None:
        super().__init__(content)
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise self._error
        return super().read(min(size or 0, 70_000))


SAID = [
    ("s3://b/rows.csv.gz", OSError("AWS Error NETWORK_CONNECTION during GetObject: curlCode: 56"), NotFound),
    ("s3://b/rows.csv.gz", OSError("AWS Error ACCESS_DENIED during GetObject"), NotAllowed),
    ("/rows.csv.gz", OSError(5, "Input/output error"), DataError),
    ("/rows.csv", OSError(5, "Input/output error"), DataError),
]


@pytest.mark.parametrize(("path", "error", "kind"), SAID)
def test_storage_that_fails_is_no_damaged_file(
    monkeypatch: pytest.MonkeyPatch, path: str, error: Exception, kind: type[RaysftError]
) -> None:
    content = gzip.compress(ROWS) if path.endswith(".gz") else ROWS
    assert len(content) > 140_000

    class Somewhere:
        def open(self) -> Failing:
            return Failing(content, error)

    monkeypatch.setattr(streams, "place", lambda _: Somewhere())
    with pytest.raises(kind) as caught:
        seen(source(path, "csv"))
    assert "damaged" not in caught.value.message
    assert str(getattr(error, "strerror", None) or error) in caught.value.message


@pytest.mark.parametrize("spoil", [lambda packed: packed[:-9000], lambda packed: packed[:9000] + bytes(900)])
def test_packed_bytes_that_do_not_unpack_are_a_damaged_file(tmp_path: Path, spoil: Any) -> None:
    path = write(tmp_path, spoil(gzip.compress(ROWS)), "rows.csv.gz")
    with pytest.raises(DataError, match=r"rows\.csv\.gz: damaged or cut short after line \d+"):
        seen(source(path, "csv"))
