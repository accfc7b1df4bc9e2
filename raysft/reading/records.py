"""One file -> its rows, whatever the format. Nothing is lost: what cannot be read is a row with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from raysft.reading.batch import Columns, RawBatch
from raysft.reading.columnar import columnar_header, read_columnar
from raysft.reading.conll import read_conll
from raysft.reading.encoding import COLUMNAR
from raysft.reading.json_arrays import is_lines, json_array_header, read_json_array
from raysft.reading.json_lines import json_lines_header, read_json_lines
from raysft.reading.lines import read_lines
from raysft.reading.sources import Source
from raysft.reading.streams import Text, open_text
from raysft.reading.tables import read_table, table_header

__all__ = ["FIXED", "Columns", "RawBatch", "header", "read_batches"]

JSON = {"json", "jsonl"}  # formats whose rows need not all have the same columns
FIXED = {"lines", "conll"}  # formats whose columns are always `text` and `label`


def read_batches(source: Source, columns: Columns) -> Iterator[RawBatch]:
    """Every row of a source in file order, streaming: at most 4096 rows and about 8 MB a batch.

    A file may lack the context column that others have; its batches then have no such cells.
    Raises NotFound, NotAllowed, DataError (empty, damaged, a column that is missing or stands there twice).
    """
    if columns.context and source.format not in JSON and columns.context not in header(source):
        columns = replace(columns, context=None)
    if source.format in {"csv", "tsv"}:
        yield from read_table(source, columns)
    elif source.format in JSON:
        yield from _read_json(source, columns)
    elif source.format in COLUMNAR:
        yield from read_columnar(source, columns)
    elif source.format == "lines":
        yield from read_lines(source, columns)
    else:
        yield from read_conll(source, columns)


def header(source: Source) -> list[str]:
    """The names of its columns, without reading more than the beginning. Raises as read_batches does."""
    if source.format in {"csv", "tsv"}:
        return table_header(source)
    if source.format in COLUMNAR:
        return columnar_header(source)
    with open_text(source.path, source.encoding) as text:
        if source.format in FIXED:
            return ["text", "label"] if source.format == "conll" or source.label_path else ["text"]
        return json_lines_header(text) if _is_json_lines(source, text) else json_array_header(text, source.path)


def _read_json(source: Source, columns: Columns) -> Iterator[RawBatch]:
    with open_text(source.path, source.encoding) as text:
        if _is_json_lines(source, text):
            yield from read_json_lines(text, columns)
        else:
            yield from read_json_array(text, columns, source.path)


def _is_json_lines(source: Source, text: Text) -> bool:
    return source.format == "jsonl" or is_lines(text)
