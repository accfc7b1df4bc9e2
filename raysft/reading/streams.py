"""Files as streams of bytes and of text: unpacked on the way, counted, and with our errors where they are damaged."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysft.errors import DataError, RaysftError
from raysft.reading import decoding
from raysft.reading.guessing import Guess
from raysft.reading.places import place
from raysft.reading.sources import compression_of
from raysft.reading.trouble import TROUBLES, trouble

SAMPLE_BYTES = 1 << 18  # looked at for encoding, separator and kind of JSON
CHUNK = 1 << 16
# How packed files begin, what that is, and what to do with one whose name does not say so.
PACKED = (
    (b"\x1f\x8b\x08", "gzip", "Name it {path}.gz, or unpack it."),
    (b"\x28\xb5\x2f\xfd", "zstd", "Name it {path}.zst, or unpack it."),
    (b"BZh91AY&SY", "bzip2", "Name it {path}.bz2, or unpack it."),
    (b"PK\x03\x04", "a zip archive or an Excel file", "Unpack it, or save the table as CSV."),
    (b"\xfd7zXZ\x00", "xz", "Unpack it; xz is not read."),
)


class Remembering(io.RawIOBase):
    """The bytes of a packed file as they are stored; knows what reading them raised.

    The unpacker above raises the same kinds of errors, and a network that fails is no damaged file.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self.error: Exception | None = None
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        try:
            chunk = self._stream.read(len(view))
        except TROUBLES as error:
            self.error = error
            raise
        view[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class Watched(io.RawIOBase):
    """Bytes of a file that know how far they are; what goes wrong below names the file and the line reached."""

    def __init__(self, shown: str, stream: Any, stored: Remembering | None = None) -> None:
        """stream: the bytes to hand over; stored: below it, where they are unpacked."""
        super().__init__()
        self.shown = shown
        self.position = 0  # bytes handed over, after unpacking
        self.lines = 0  # line ends fetched
        self._stream = stream
        self._stored = stored
        self._ahead = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        chunk, self._ahead = self._ahead[: len(view)] or self._fetch(min(len(view), CHUNK)), self._ahead[len(view) :]
        view[: len(chunk)] = chunk
        self.position += len(chunk)
        return len(chunk)

    def sample(self) -> bytes:
        """The first bytes, which are still to be read."""
        chunks = [b""]
        while sum(map(len, chunks)) < SAMPLE_BYTES and (chunk := self._fetch(CHUNK)):
            chunks.append(chunk)
        self._ahead = b"".join(chunks)
        return self._ahead

    def _fetch(self, size: int) -> bytes:
        try:
            chunk: bytes = self._stream.read(size)
        except TROUBLES as error:
            raise self._broken(error) from None
        self.lines += chunk.count(b"\n")
        return chunk

    def _broken(self, error: Exception) -> RaysftError:
        if self._stored is None or self._stored.error:
            return trouble(self.shown, self._stored.error if self._stored and self._stored.error else error)
        return DataError(
            f"{self.shown}: damaged or cut short after line {self.lines} ({error})",
            "Copy or download the file anew; nothing of it is used.",
        )

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


@dataclass
class Text:
    """A text file that is open: its lines end at \\n only, unless it has none (then \\r ends them)."""

    raw: Watched
    lines: io.TextIOWrapper
    guess: Guess  # of its encoding
    sample: str  # the beginning
    newline: str

    @property
    def reason(self) -> str:
        return decoding.reason_of(self.guess.name)


@contextmanager
def open_bytes(path: str) -> Iterator[Watched]:
    """The bytes of a file, unpacked where its ending says so. Raises NotFound, NotAllowed, DataError."""
    file = place(path).open()
    packed = compression_of(path)
    stored = Remembering(file) if packed else None
    try:
        stream = pa.CompressedInputStream(stored, packed) if packed else file
    except TROUBLES as error:
        raise trouble(path, error) from None
    with Watched(path, stream, stored) as raw:
        yield raw


@contextmanager
def open_text(path: str, encoding: str, old_mac: bool = False) -> Iterator[Text]:
    """A text file; with `old_mac` a file without \\n has its lines ended by \\r.

    Raises NotFound, NotAllowed, DataError (empty, damaged, packed and not named so).
    """
    with open_bytes(path) as raw:
        sample = raw.sample()
        if not sample:
            raise DataError(f"{path}: the file is empty", "It needs rows.")
        _refuse_packed(path, sample)
        guess = decoding.resolve(encoding, sample)
        codec = decoding.codec_of(guess.name)
        start = sample.decode(codec, decoding.MARK)
        newline = "" if old_mac and "\n" not in start and "\r" in start else "\n"
        with io.TextIOWrapper(
            io.BufferedReader(raw, SAMPLE_BYTES), encoding=codec, errors=decoding.MARK, newline=newline
        ) as lines:
            yield Text(raw, lines, guess, start, newline)


def _refuse_packed(path: str, sample: bytes) -> None:
    for magic, what, next_step in PACKED:
        if sample.startswith(magic):
            raise DataError(f"{path}: this is {what}, not text", next_step.format(path=Path(path).name))
