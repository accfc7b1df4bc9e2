"""Parquet, Arrow (file and stream) and folders that the `datasets` library saved, batch by batch.

Labels that are stored as numbers of a ClassLabel become their names, wherever the file tells them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysft.errors import DataError, RaysftError
from raysft.reading.batch import BATCH_BYTES, BATCH_ROWS, Columns, RawBatch, check_values, places_of, slices
from raysft.reading.decoding import MARK
from raysft.reading.features import Names, feature_names, named, saved_features
from raysft.reading.places import place
from raysft.reading.sources import Source, compression_of, data_files, is_saved_dataset
from raysft.reading.streams import open_bytes
from raysft.reading.trouble import trouble

FILE_MAGIC = b"ARROW1"
# What damaged files make pyarrow raise; MemoryError where a length was damaged.
BROKEN = (OSError, pa.ArrowException, ValueError, KeyError, OverflowError, MemoryError)


def read_columnar(source: Source, columns: Columns) -> Iterator[RawBatch]:
    """Every row; `line` is its number, from 1. Raises NotFound, NotAllowed, DataError (damaged)."""
    features = saved_features(source) if is_saved_dataset(source) else None
    done = 0
    for path in _files(source):
        try:
            for batch in _batches(path, source.format, columns):
                yield from _cut(batch, columns, features, done, path)
                done += batch.num_rows
        except BROKEN as error:
            raise _broken(path, error, done) from None


def columnar_header(source: Source) -> list[str]:
    """The names of the columns, from the schema."""
    files = _files(source)
    try:
        return list(_schema(files[0], source.format).names) if files else []
    except BROKEN as error:
        raise _broken(files[0], error, 0) from None


def _files(source: Source) -> list[str]:
    here = place(source.path)
    return [here.child(name).shown for name in data_files(here)] if is_saved_dataset(source) else [source.path]


def _schema(path: str, kind: str) -> Any:
    if kind == "parquet":
        with _seekable(path) as file:
            return pq.ParquetFile(file).schema_arrow
    with open_bytes(path) as raw:
        if raw.sample().startswith(FILE_MAGIC):
            with _seekable(path) as file:
                return pa.ipc.open_file(file).schema
        return pa.ipc.open_stream(io.BufferedReader(raw)).schema


def _batches(path: str, kind: str, columns: Columns) -> Iterator[Any]:
    """Record batches with the columns that count."""
    if kind == "parquet":
        yield from _parquet(path, columns)
        return
    with open_bytes(path) as raw:
        if raw.sample().startswith(FILE_MAGIC):
            yield from _arrow_file(path, columns)
            return
        stream = pa.ipc.open_stream(io.BufferedReader(raw))  # which reads as much as it is asked for
        places_of(columns, stream.schema.names, path)
        for batch in stream:
            yield batch.select(_wanted(columns))


def _parquet(path: str, columns: Columns) -> Iterator[Any]:
    with _seekable(path) as raw:
        file = pq.ParquetFile(raw)
        places_of(columns, file.schema_arrow.names, path)
        rows = max(1, file.metadata.num_rows)
        groups = (file.metadata.row_group(index) for index in range(file.metadata.num_row_groups))
        row_bytes = sum(group.total_byte_size for group in groups) / rows
        size = int(min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, row_bytes))))
        yield from file.iter_batches(size, columns=_wanted(columns), use_threads=False)


def _arrow_file(path: str, columns: Columns) -> Iterator[Any]:
    with _seekable(path) as raw:
        file = pa.ipc.open_file(raw)
        places_of(columns, file.schema.names, path)
        for index in range(file.num_record_batches):
            yield file.get_batch(index).select(_wanted(columns))


def _seekable(path: str) -> BinaryIO:
    if compression_of(path):
        raise DataError(f"{path}: Parquet and Arrow files are compressed inside, not around", "Unpack it.")
    return place(path).open()


def _wanted(columns: Columns) -> list[str]:
    return list(dict.fromkeys(columns.named.values()))


def _cut(batch: Any, columns: Columns, features: dict[str, Any] | None, done: int, path: str) -> Iterator[RawBatch]:
    """One record batch as batches of ours, of which none holds too much."""
    told = features if features is not None else feature_names(batch.schema.metadata)
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES * batch.num_rows // max(1, batch.nbytes)))
    for part in slices(batch.num_rows, rows):
        piece = batch.slice(part.start, part.stop - part.start)
        lines = list(range(done + part.start + 1, done + part.stop + 1))
        cells = {role: _values(piece.column(name), told.get(name)) for role, name in columns.named.items()}
        found = RawBatch(lines, cells, [None] * len(lines), [""] * len(lines))
        check_values(found, "not_utf8")
        yield found


def _values(column: Any, names: Names | None) -> list[Any]:
    """Python values of a column: times as text, bytes as text, class numbers as names, NaN as None."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = pc.cast(pc.cast(column, pa.timestamp("us", kind.tz), safe=False), pa.string())
    elif pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        column = pc.cast(column, pa.string())
    elif pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    values = _texts(column)
    return values if names is None else [named(value, names) for value in values]


def _texts(column: Any) -> list[Any]:
    """Values whose bytes are text; a byte that does not decode becomes a mark."""
    kind = column.type
    try:
        column.validate(full=True)
        values = column.to_pylist()
    except (pa.ArrowInvalid, UnicodeDecodeError):
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise
        column = column.view(pa.large_binary() if pa.types.is_large_string(kind) else pa.binary())
        column.validate(full=True)
        values = column.to_pylist()
    return [value.decode("utf-8", MARK) if isinstance(value, bytes) else value for value in values]


def _broken(path: str, error: Exception, rows: int) -> RaysftError:
    if isinstance(error, OSError) and not isinstance(error, pa.ArrowException) and "://" in path:
        return trouble(path, error)
    said = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return DataError(f"{path}: damaged, or not what it is taken for, after row {rows} ({said})", "Write it anew.")
