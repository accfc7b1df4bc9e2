"""Files as streams of bytes and of text: unpacked on the way, counted, and with our errors where they are damaged."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raysft.errors import DataError, RaysftError
from raysft.reading import decoding
from raysft.reading.places import place
from raysft.reading.sources import compression_of
from raysft.reading.trouble import TROUBLES, trouble

SAMPLE_BYTES = 1 << 18  # looked at for encoding, separator and kind of JSON
CHUNK = 1 << 16


class Watched(io.RawIOBase):
    """Bytes of a file that know how far they are; what goes wrong below names the file and the line reached."""

    def __init__(self, shown: str, stream: Any) -> None:
        super().__init__()
        self.shown = shown
        self.position = 0  # bytes handed over, after unpacking
        self.lines = 0  # line ends fetched
        self._stream = stream
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
        if compression_of(self.shown) is None:
            return trouble(self.shown, error)
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
    encoding: str
    sample: str  # the beginning
    newline: str

    @property
    def reason(self) -> str:
        return decoding.reason_of(self.encoding)


@contextmanager
def open_bytes(path: str) -> Iterator[Watched]:
    """The bytes of a file, unpacked where its ending says so. Raises NotFound, NotAllowed, DataError."""
    file = place(path).open()
    packed = compression_of(path)
    try:
        stream = pa.CompressedInputStream(file, packed) if packed else file
    except TROUBLES as error:
        raise trouble(path, error) from None
    with Watched(path, stream) as raw:
        yield raw


@contextmanager
def open_text(path: str, encoding: str, old_mac: bool = False) -> Iterator[Text]:
    """A text file; with `old_mac` a file without \\n has its lines ended by \\r.

    Raises NotFound, NotAllowed, DataError (empty, damaged).
    """
    with open_bytes(path) as raw:
        sample = raw.sample()
        if not sample:
            raise DataError(f"{path}: the file is empty", "It needs rows.")
        name = decoding.resolve(encoding, sample)
        codec = decoding.codec_of(name)
        start = sample.decode(codec, decoding.MARK)
        newline = "" if old_mac and "\n" not in start and "\r" in start else "\n"
        with io.TextIOWrapper(
            io.BufferedReader(raw, SAMPLE_BYTES), encoding=codec, errors=decoding.MARK, newline=newline
        ) as lines:
            yield Text(raw, lines, name, start, newline)
