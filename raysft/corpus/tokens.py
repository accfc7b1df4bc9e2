"""The tokenized dataset: memory-mapped Arrow shards that training reads by position.

A folder of `shard-00000.arrow` (uncompressed Arrow IPC, so that mapping costs no memory). Columns: row_id int64, label
int32 (-1 without one), input_ids list<int32> with special tokens, at most max_length; targets list<int32>: class ids of
a row with several labels, a tag a token (corpus/windows.py), or 1 where a token is learnt; empty where `label` says it
all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

SHARD_ROWS = 20_000
TOKENS = pa.schema(
    [
        ("row_id", pa.int64()),
        ("label", pa.int32()),
        ("input_ids", pa.list_(pa.int32())),
        ("targets", pa.list_(pa.int32())),
    ]
)
Array = np.ndarray[Any, Any]


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.arrow"


def write_shard(path: Path, rows: pa.Table) -> None:
    """Write `rows` (schema TOKENS) as one Arrow IPC file of one batch, which maps without a copy."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, TOKENS) as writer:
        writer.write_table(rows.combine_chunks())


def lists_of(rows: Sequence[Sequence[int]]) -> pa.Array:
    """list<int32>, a list each; several times as fast as pyarrow's own way from Python lists."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = np.fromiter(chain.from_iterable(rows), np.int32, int(offsets[-1]))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


@dataclass(frozen=True)
class _Shard:
    """One file, mapped. Row i has `ids[offsets[i]:offsets[i+1]]`, and its targets likewise."""

    row_id: Array  # (rows,) int64
    label: Array  # (rows,) int32
    ids: Array  # (tokens,) int32
    offsets: Array  # (rows + 1,) int32
    targets: Array  # (targets,) int32
    target_offsets: Array  # (rows + 1,) int32

    @staticmethod
    def of(table: pa.Table) -> _Shard:
        table = table.combine_chunks()
        ids, offsets = _flat(table, "input_ids")
        targets, target_offsets = _flat(table, "targets")
        return _Shard(
            row_id=table.column("row_id").to_numpy(),
            label=table.column("label").to_numpy(),
            ids=ids,
            offsets=offsets,
            targets=targets,
            target_offsets=target_offsets,
        )


def _flat(table: pa.Table, name: str) -> tuple[Array, Array]:
    """(values, offsets) of a column of lists, without a copy."""
    lists = table.column(name).chunk(0) if table.num_rows else pa.array([], pa.list_(pa.int32()))
    return lists.values.to_numpy(), lists.offsets.to_numpy()


@dataclass(frozen=True)
class TokenizedRows:
    """Rows by position, over all shards; nothing but a few bytes a row is in memory until its tokens are asked for."""

    row_id: Array  # (rows,) int64
    label: Array  # (rows,) int32
    lengths: Array  # (rows,) int32, tokens
    shards: tuple[_Shard, ...]
    starts: Array  # (shards,) int64: position of the first row of each shard, over all shards
    place: Array  # (rows,) int64: position of the row over all shards
    numbers: Array | None = None  # of each token of the vocabulary, where it has another here

    def __len__(self) -> int:
        return len(self.row_id)

    def tokens(self, position: int) -> Array:
        """The token ids of one row, int32."""
        shard, row = self._find(position)
        ids = shard.ids[shard.offsets[row] : shard.offsets[row + 1]]
        return ids if self.numbers is None else np.asarray(self.numbers[ids])

    def targets(self, position: int) -> Array:
        """What the column `targets` holds of one row, int32: its classes, or one number a token; see above."""
        shard, row = self._find(position)
        return shard.targets[shard.target_offsets[row] : shard.target_offsets[row + 1]]

    def _find(self, position: int) -> tuple[_Shard, int]:
        place = self.place[position]
        number = int(np.searchsorted(self.starts, place, side="right")) - 1
        return self.shards[number], int(place - self.starts[number])

    def select(self, positions: Array) -> TokenizedRows:
        """The rows at `positions`, in that order."""
        return replace(
            self,
            row_id=self.row_id[positions],
            label=self.label[positions],
            lengths=self.lengths[positions],
            place=self.place[positions],
        )


def read_shards(folder: Path) -> TokenizedRows:
    """Map every shard of a folder, in order."""
    files = sorted(folder.glob("shard-*.arrow"))
    if not files:
        raise FileNotFoundError(f"no shards in {folder}")
    return from_tables([pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files])


def from_tables(tables: Sequence[pa.Table]) -> TokenizedRows:
    """Tables in schema TOKENS as rows by position."""
    shards = tuple(_Shard.of(table) for table in tables if table.num_rows) or (_Shard.of(TOKENS.empty_table()),)
    rows = [len(shard.row_id) for shard in shards]
    return TokenizedRows(
        row_id=np.concatenate([shard.row_id for shard in shards]),
        label=np.concatenate([shard.label for shard in shards]),
        lengths=np.concatenate([np.diff(shard.offsets) for shard in shards]),
        shards=shards,
        starts=np.cumsum([0, *rows[:-1]]),
        place=np.arange(sum(rows)),
    )


def from_lists(
    ids: Sequence[Sequence[int]], labels: Sequence[int], targets: Sequence[Sequence[int]] | None = None
) -> TokenizedRows:
    """Rows in memory, numbered from 0: token ids and a label each; targets where a label does not say it all."""
    columns = [
        pa.array(range(len(ids)), pa.int64()),
        pa.array(labels, pa.int32()),
        lists_of(ids),
        lists_of([()] * len(ids) if targets is None else targets),
    ]
    return from_tables([pa.table(columns, schema=TOKENS)])
