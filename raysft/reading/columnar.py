"""Parquet, Arrow (file and stream) and folders that the `datasets` library saved, batch by batch.

Labels that are stored as numbers of a ClassLabel become their names, wherever the file tells them. An object of lists,
as which `datasets` stores a list of objects, becomes that list again.
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
from raysft.reading.features import Names, feature_names, named, saved_features, transposed
from raysft.reading.places import place
from raysft.reading.sources import Source, compression_of, data_files, is_saved_dataset
from raysft.reading.streams import open_bytes
from raysft.reading.trouble import trouble

FILE_MAGIC = b"ARROW1"
PARQUET_BUFFER = 1 << 20
# What damaged files make pyarrow raise; MemoryError where a length was damaged, RecursionError where a type was.
BROKEN = (OSError, pa.ArrowException, ValueError, KeyError, OverflowError, MemoryError, RecursionError)
AS_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
BYTES = set(AS_BYTES.values())


class _Asked(io.BufferedReader):
    """A stream that knows whether more was asked of it than it had."""

    ran_out = False

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.ran_out |= len(found) < (size or 0)
        return found


def read_columnar(source: Source, columns: Columns) -> Iterator[RawBatch]:
    """Every row; `line` is its number, from 1. Raises NotFound, NotAllowed, DataError (damaged, cut short)."""
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
        yield from _arrow_stream(_Asked(raw), columns, path)


def _parquet(path: str, columns: Columns) -> Iterator[Any]:
    with _seekable(path) as raw:
        # Else every chunk of a column that was read stays in memory until the last row, and a group is read at once.
        file = pq.ParquetFile(raw, pre_buffer=False, buffer_size=PARQUET_BUFFER)
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


def _arrow_stream(file: _Asked, columns: Columns, path: str) -> Iterator[Any]:
    """Batches of a stream that is whole: pyarrow stops at its end marker, or, without a word, where the bytes end."""
    stream = pa.ipc.open_stream(file)
    places_of(columns, stream.schema.names, path)
    for batch in stream:
        yield batch.select(_wanted(columns))
    if file.ran_out:
        raise pa.ArrowInvalid("cut short: the stream has no end marker")
    if file.read(1):  # two streams in one file, or a damaged length that passes for an end marker
        raise pa.ArrowInvalid("the file goes on behind the end of its stream")


def _seekable(path: str) -> BinaryIO:
    if compression_of(path):
        raise DataError(f"{path}: Parquet and Arrow files are compressed inside, not around", "Unpack it.")
    return place(path).open()


def _wanted(columns: Columns) -> list[str]:
    return list(dict.fromkeys(columns.named.values()))


def _cut(batch: Any, columns: Columns, features: dict[str, Any] | None, done: int, path: str) -> Iterator[RawBatch]:
    """One record batch as batches of ours, of which none holds too much."""
    told = features if features is not None else feature_names(batch.schema.metadata)
    checked = {name: _checked(batch.column(name)) for name in _wanted(columns)}
    size = sum(column.nbytes for column in checked.values())  # which looks at offsets, so not before they are checked
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES * batch.num_rows // max(1, size)))
    for part in slices(batch.num_rows, rows):
        lines = list(range(done + part.start + 1, done + part.stop + 1))
        cells = {role: _values(checked[name][part], told.get(name)) for role, name in columns.named.items()}
        found = RawBatch(lines, cells, [None] * len(lines), [""] * len(lines))
        check_values(found, "not_utf8")
        yield found


def _checked(column: Any) -> Any:
    """A column that is safe to read; with a byte in it that does not decode, its texts are bytes.

    Once for a whole batch, since slices of lists and of dictionaries share their values. Raises ArrowInvalid.
    """
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        kind = _bytes_for_text(column.type)
        if kind == column.type:
            raise
        column = column.view(kind)
        column.validate(full=True)
    return column


def _bytes_for_text(kind: Any) -> Any:
    """The type with bytes in place of text, however deep it lies; the memory is the same."""
    types, inner = pa.types, _bytes_for_text
    if types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, inner(kind.value_type), kind.ordered)
    if types.is_struct(kind):
        return pa.struct([field.with_type(inner(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(inner(kind.key_type), inner(kind.item_type))
    if _is_list(kind):
        item = kind.value_field.with_type(inner(kind.value_type))
        if types.is_fixed_size_list(kind):
            return pa.list_(item, kind.list_size)
        return pa.large_list(item) if types.is_large_list(kind) else pa.list_(item)
    return AS_BYTES.get(kind, kind)


def _values(column: Any, names: Names | None) -> list[Any]:
    """Python values of a column: times as text, bytes as text, class numbers as names, NaN as None."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = pc.cast(pc.cast(column, pa.timestamp("us", kind.tz), safe=False), pa.string())
    elif pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        column = pc.cast(column, pa.string())
    elif pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    values = column.to_pylist()
    if _holds_bytes(kind):
        values = [_text(value) for value in values]
    if names is not None:
        values = [named(value, names) for value in values]
    return [transposed(value) for value in values] if _holds_lists(kind) else values


def _text(value: Any) -> Any:
    """A value whose bytes are text, however deep they lie; a byte that does not decode becomes a mark."""
    if isinstance(value, bytes):
        return value.decode("utf-8", MARK)
    if isinstance(value, list | tuple):
        return [_text(each) for each in value]
    if isinstance(value, dict):
        return {key: _text(each) for key, each in value.items()}
    return value


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    own = kind in BYTES or pa.types.is_fixed_size_binary(kind)
    return own or any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _holds_lists(kind: Any) -> bool:
    """Whether it is an object of lists and of nothing else."""
    return bool(pa.types.is_struct(kind) and kind.num_fields and all(_is_list(field.type) for field in kind))


def _broken(path: str, error: Exception, rows: int) -> RaysftError:
    if isinstance(error, OSError) and not isinstance(error, pa.ArrowException) and "://" in path:
        return trouble(path, error)
    said = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return DataError(f"{path}: damaged, or not what it is taken for, after row {rows} ({said})", "Write it anew.")
