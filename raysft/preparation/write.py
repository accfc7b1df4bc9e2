"""Decided rows -> files: corpus (open and sealed), rejected.parquet, quarantine.csv for a person to mend, findings."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from raysft.corpus.rows import ROW
from raysft.corpus.tokens import SHARD_ROWS
from raysft.folds.assign import SEALED
from raysft.preparation.books import Books
from raysft.preparation.ledger import write_findings
from raysft.preparation.quarantine import Form, Quarantine
from raysft.preparation.rowstore import RowStore
from raysft.storage.commit import ASIDE, settle
from raysft.storage.layout import DataFolder

Array = np.ndarray[Any, Any]
CORPUS = pa.schema(
    [
        ("row_id", pa.int64()),
        *(field for field in ROW if field.name not in {"reason", "detail"}),
        ("label_id", pa.int32()),  # -1 where one number cannot say it
        ("unit", pa.int64()),  # rows of one unit never stand in two parts
        ("fold", pa.int16()),
    ]
)
REJECTED = pa.schema([("row_id", pa.int64()), *ROW, ("quarantined", pa.bool_())])


@dataclass(frozen=True)
class Placed:
    """Where every row of the store goes; entries of rows that were left out mean nothing."""

    label_id: Array  # (rows,) int32
    unit: Array  # (rows,) int64
    fold: Array  # (rows,) int64; small enough for int16


def write_corpus(store: RowStore, books: Books, placed: Placed, folder: DataFolder, form: Form) -> dict[bool, int]:
    """Write everything; returns the number of row groups, and so of shards, of the open and of the sealed rows."""
    alive, aside = books.alive, books.quarantined
    with ExitStack() as open_files:
        parts = {
            sealed: open_files.enter_context(_RowGroups(folder.corpus(sealed), CORPUS)) for sealed in (False, True)
        }
        rejected = open_files.enter_context(_RowGroups(folder.rejected, REJECTED))
        quarantine = open_files.enter_context(Quarantine(folder.quarantine, form))
        for start, rows in store.tables():
            ids = np.arange(start, start + rows.num_rows)
            kept = _kept(rows, ids, placed)
            for sealed, part in parts.items():
                part.add(kept.filter(pa.array(alive[ids] & ((placed.fold[ids] == SEALED) == sealed))))
            if not alive[ids].all():
                gone = ids[~alive[ids]]
                left = _left_out(rows.take(pa.array(gone - start)), gone, books, aside[gone])
                rejected.add(left)
                quarantine.add(left)
    write_findings(books, folder.findings)
    return {sealed: part.groups for sealed, part in parts.items()}


def write_refused(store: RowStore, books: Books, path: Path) -> None:
    """All rows that were left out, as CSV, for a person who has to find out why the job was refused."""
    columns = ["source", "line", "reason", "detail", "text", "label"]
    aside = path.with_name(path.name + ASIDE)
    with csv.CSVWriter(str(aside), pa.schema([REJECTED.field(name) for name in columns])) as file:
        for start, rows in store.tables(["source", "line", "reason", "detail", "text", "label"]):
            ids = np.arange(start, start + rows.num_rows)
            gone = ids[~books.alive[ids]]
            left = rows.take(pa.array(gone - start))
            reasons, details = books.explain(gone, left.column("detail").to_pylist())
            found = {"reason": pa.array(reasons, pa.string()), "detail": pa.array(details, pa.string())}
            file.write(pa.table([found.get(name, left.column(name)) for name in columns], columns))
    settle(aside, path)


def _kept(rows: pa.Table, ids: Array, placed: Placed) -> pa.Table:
    columns = {
        "row_id": pa.array(ids),
        "label_id": pa.array(placed.label_id[ids], pa.int32()),
        "unit": pa.array(placed.unit[ids], pa.int64()),
        "fold": pa.array(placed.fold[ids], pa.int16()),
    }
    return pa.table([columns[name] if name in columns else rows.column(name) for name in CORPUS.names], schema=CORPUS)


def _left_out(rows: pa.Table, ids: Array, books: Books, quarantined: Array) -> pa.Table:
    reasons, details = books.explain(ids, rows.column("detail").to_pylist())
    columns = {
        "row_id": pa.array(ids),
        "reason": pa.array(reasons, pa.string()),
        "detail": pa.array(details, pa.string()),
        "quarantined": pa.array(quarantined),
    }
    return pa.table(
        [columns[name] if name in columns else rows.column(name) for name in REJECTED.names], schema=REJECTED
    )


class _RowGroups:
    """A Parquet file whose row groups hold SHARD_ROWS rows each, but the last; written as rows come."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(str(path), schema, compression="zstd", store_schema=True)
        self._waiting: list[pa.Table] = [schema.empty_table()]
        self._rows = 0
        self.groups = 0

    def __enter__(self) -> _RowGroups:
        return self

    def __exit__(self, *failed: object) -> None:
        if failed[0] is None and self._rows:
            self._write(pa.concat_tables(self._waiting))
        self._writer.close()

    def add(self, rows: pa.Table) -> None:
        self._waiting.append(rows)
        self._rows += rows.num_rows
        while self._rows >= SHARD_ROWS:
            waiting = pa.concat_tables(self._waiting)
            self._write(waiting.slice(0, SHARD_ROWS))
            # Copied, so that what was written is not held in memory by the rest.
            self._waiting = [waiting.slice(SHARD_ROWS).combine_chunks()]
            self._rows -= SHARD_ROWS

    def _write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=SHARD_ROWS)
        self.groups += 1
