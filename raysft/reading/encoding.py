"""Which encoding a source is read with, so that people can be told."""

from __future__ import annotations

from raysft.reading.sources import Source
from raysft.reading.streams import open_text

COLUMNAR = frozenset({"parquet", "arrow"})  # formats that hold no encoded text


def encoding_of(source: Source) -> str:
    """What its text is decoded with, `auto` having been found out; "" for Parquet and Arrow.

    Raises NotFound, NotAllowed, DataError (empty, damaged).
    """
    if source.format in COLUMNAR:
        return ""
    with open_text(source.path, source.encoding) as text:
        return text.encoding
