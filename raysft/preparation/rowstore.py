"""All rows of a corpus with their features, on disk; columns as arrays, texts where they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysft.corpus.rows import TEST, TRAIN, VALIDATION, where
from raysft.preparation.features import SKETCHES, Wanted, add_features, band_name
from raysft.storage.commit import ASIDE, read_json, settle

ORIGINS = (TRAIN, VALIDATION, TEST)  # their codes are their places
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ReadFacts:
    """What reading one source found."""

    path: str
    origin: str
    format: str
    encoding: str
    rows: int
    scripts: dict[str, int]


def rows_file(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.arrow"


def facts_file(folder: Path, number: int) -> Path:
    """Written last: its presence says that the rows of this source are complete."""
    return folder / f"{number:05d}.json"


def write_rows(folder: Path, number: int, tables: Iterable[pa.Table], wanted: Wanted) -> tuple[int, Counter[str]]:
    """Stream canonical tables with their features into one file; (rows, scripts). Appears only when complete."""
    file = rows_file(folder, number)
    aside = file.with_name(file.name + ASIDE)
    count, scripts, writer = 0, Counter[str](), None
    with pa.OSFile(str(aside), "wb") as sink:
        for table in tables:
            table, found = add_features(table, wanted)
            writer = writer or pa.ipc.new_file(sink, table.schema)
            writer.write_table(table.combine_chunks())
            count += table.num_rows
            scripts += found
        if writer is not None:
            writer.close()
    settle(aside, file)
    return count, scripts


class RowStore:
    """Rows in the order of the sources and their lines; row i of the store is row_id i.

    Only what is asked for is read, and only while it is looked at: mapping the files would keep them in memory.
    """

    def __init__(self, sources: Sequence[Path | pa.Table], facts: list[ReadFacts]) -> None:
        self.facts = facts
        self._sources = list(sources)
        sizes = [batch.num_rows for batch in self._batches(["line"])]
        self._starts = np.cumsum([0, *sizes])
        self.rows = int(self._starts[-1])

    @staticmethod
    def open(folder: Path, sources: int) -> RowStore:
        """What `write_rows` left for each source."""
        facts = [ReadFacts(**read_json(facts_file(folder, number))) for number in range(sources)]
        return RowStore([rows_file(folder, number) for number, each in enumerate(facts) if each.rows], facts)

    @staticmethod
    def of_table(rows: pa.Table, wanted: Wanted) -> RowStore:
        """Canonical rows in memory, as `raysft check` samples them."""
        table, _ = add_features(rows, wanted)
        return RowStore([table] if table.num_rows else [], [])

    def _batches(self, columns: Sequence[str] | None, wanted: set[int] | None = None) -> Iterator[pa.RecordBatch]:
        """The batches of all sources, in order, with some columns; those outside of `wanted` are not read."""
        number = 0
        for source in self._sources:
            if isinstance(source, pa.Table):
                batches: Iterator[Any] = iter((source if columns is None else source.select(columns)).to_batches())
                for batch in batches:
                    if wanted is None or number in wanted:
                        yield batch
                    number += 1
                continue
            with pa.OSFile(str(source)) as file:
                reader = self._reader(file, columns)
                for place in range(reader.num_record_batches):
                    if wanted is None or number in wanted:
                        yield reader.get_batch(place)
                    number += 1
        # Arrow keeps what it has freed: after a pass over a million rows, 180 MiB.
        pa.default_memory_pool().release_unused()

    @cached_property
    def _names(self) -> list[str]:
        """The columns, alike in all files; known once, since reading a schema is most of what opening a file costs."""
        with pa.OSFile(str(self._sources[0])) as file:
            return list(pa.ipc.open_file(file).schema.names)

    def _reader(self, file: Any, columns: Sequence[str] | None) -> Any:
        """A reader of all columns of a file, or of some."""
        if columns is None:
            return pa.ipc.open_file(file)
        wanted = [self._names.index(name) for name in columns]
        return pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=wanted))

    def numbers(self, name: str) -> Array:
        """One column of numbers as an array; nulls of time become NaN."""
        parts = [batch.column(0).to_numpy(zero_copy_only=False) for batch in self._batches([name])]
        return np.concatenate(parts) if parts else np.zeros(0)

    def codes(self, name: str) -> tuple[Array, list[str]]:
        """A column of strings as (int32 code per row, the strings); null is -1."""
        known: dict[str, int] = {}
        parts = [np.zeros(0, np.int32)]
        for batch in self._batches([name]):
            column = batch.column(0).dictionary_encode()
            places = [known.setdefault(value, len(known)) for value in column.dictionary.to_pylist()]
            here = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            parts.append(np.array([*places, -1], np.int32)[here])
        return np.concatenate(parts), list(known)

    @cached_property
    def origin(self) -> Array:
        """TRAIN, VALIDATION or TEST of raysft.audit.repeats, int8."""
        codes, names = self.codes("origin")
        return np.array([ORIGINS.index(name) for name in names] or [0], np.int8)[codes]

    @cached_property
    def text_key(self) -> Array:
        return self.numbers("text_key").astype(np.uint64)

    def bands(self, wanted: Wanted) -> Iterator[Array]:
        """The keys of one band after the other, uint32, shape (rows,)."""
        return (self.numbers(band_name(number)) for number in range(wanted.bands))

    def sketches(self) -> Array:
        """One short sketch of each text, uint64, shape (rows, SKETCH_WORDS)."""
        return np.stack([self.numbers(name).astype(np.uint64) for name in SKETCHES], axis=1)

    def values(self, name: str, rows: Array) -> list[Any]:
        """Values of one column at some rows, in their order."""
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        edges = np.searchsorted(ordered, self._starts)
        wanted = np.flatnonzero(edges[1:] > edges[:-1]).tolist()
        found: list[Any] = [None] * len(rows)
        for number, batch in zip(wanted, self._batches([name], set(wanted)), strict=True):
            first, last = edges[number], edges[number + 1]
            taken = batch.column(0).take(pa.array(ordered[first:last] - self._starts[number])).to_pylist()
            for place, value in zip(order[first:last].tolist(), taken, strict=True):
                found[place] = value
        return found

    def text_sizes(self) -> Array:
        """Characters of each text, int32, shape (rows,); counted where they lie, no text becomes a Python string."""
        parts = [pc.utf8_length(batch.column(0)).to_numpy(zero_copy_only=False) for batch in self._batches(["text"])]
        return np.concatenate([np.zeros(0, np.int32), *parts])

    def texts(self, rows: Array) -> list[str]:
        return self.values("text", rows)

    def where(self, rows: Array) -> list[str]:
        """`tickets.csv:12` of some rows."""
        return [where(*each) for each in zip(self.values("source", rows), self.values("line", rows), strict=True)]

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """(first row, rows) of each stretch of the store, with all columns or some."""
        for start, batch in zip(self._starts.tolist(), self._batches(columns), strict=False):
            yield start, pa.Table.from_batches([batch])
