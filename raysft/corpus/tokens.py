"""The tokenized dataset: memory-mapped Arrow shards that training reads by position.

A folder of `shard-00000.arrow` (uncompressed Arrow IPC, so that mapping costs no memory) and a manifest. Columns:
row_id int64, label int32 (-1 without label), input_ids list<int32> with special tokens, at most max_length.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysft.storage.pretrained import Base

SHARD_ROWS = 50_000
TOKENS = pa.schema([("row_id", pa.int64()), ("label", pa.int32()), ("input_ids", pa.list_(pa.int32()))])


@functools.lru_cache(maxsize=4)
def load_tokenizer(folder: str, max_length: int) -> Any:
    """The fast tokenizer of a base, truncating at `max_length` and never padding (tokenizers.Tokenizer)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def encode(texts: list[str], base: Base, max_length: int) -> tuple[list[list[int]], list[bool]]:
    """Token ids of each text, and whether it was cut."""
    encodings = load_tokenizer(str(base.folder), max_length).encode_batch_fast(texts)
    return [encoding.ids for encoding in encodings], [bool(encoding.overflowing) for encoding in encodings]


def write_shards(folder: Path, rows: pa.Table) -> None:
    """Write `rows` (schema TOKENS) as shards below `folder`; an empty table leaves one empty shard."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, max(1, rows.num_rows), SHARD_ROWS)
    for number, start in enumerate(starts):
        path = str(folder / f"shard-{number:05d}.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, TOKENS) as writer:
            writer.write_table(rows.slice(start, SHARD_ROWS).combine_chunks())  # one batch maps without a copy


@dataclass(frozen=True)
class TokenizedRows:
    """Rows by position, over all shards. `ids[offsets[i]:offsets[i+1]]` are the tokens of row i."""

    row_id: np.ndarray[Any, Any]  # (rows,) int64
    label: np.ndarray[Any, Any]  # (rows,) int32
    ids: np.ndarray[Any, Any]  # (tokens,) int32
    offsets: np.ndarray[Any, Any]  # (rows + 1,) int64

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.row_id)

    def tokens(self, position: int) -> np.ndarray[Any, Any]:
        return self.ids[self.offsets[position] : self.offsets[position + 1]]

    def select(self, positions: np.ndarray[Any, Any]) -> TokenizedRows:
        """The rows at `positions`, in that order."""
        pieces = [self.tokens(position) for position in positions]
        offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
        ids = np.concatenate(pieces) if pieces else np.zeros(0, np.int32)
        return TokenizedRows(self.row_id[positions], self.label[positions], ids, offsets)


def read_shards(folder: Path) -> TokenizedRows:
    """Map every shard of a folder, in order. One shard is read without a copy."""
    tables = [pa.ipc.open_file(pa.memory_map(str(shard))).read_all() for shard in sorted(folder.glob("shard-*.arrow"))]
    if not tables:
        raise FileNotFoundError(f"no shards in {folder}")
    return from_table(pa.concat_tables(tables))


def from_table(table: pa.Table) -> TokenizedRows:
    """A table in schema TOKENS as arrays."""
    table = table.combine_chunks()
    lists = table.column("input_ids").chunk(0) if table.num_rows else pa.array([], pa.list_(pa.int32()))
    offsets = lists.offsets.to_numpy().astype(np.int64)
    values = lists.values.to_numpy()
    return TokenizedRows(
        row_id=table.column("row_id").to_numpy(),
        label=table.column("label").to_numpy(),
        ids=values[offsets[0] : offsets[-1]],
        offsets=offsets - offsets[0],
    )


def from_texts(texts: list[str], base: Base, max_length: int) -> TokenizedRows:
    """Texts without labels, tokenized in this process."""
    ids, _ = encode(texts, base, max_length)
    columns = [
        pa.array(range(len(texts)), pa.int64()),
        pa.array([-1] * len(texts), pa.int32()),
        pa.array(ids, TOKENS.field(2).type),
    ]
    return from_table(pa.table(columns, schema=TOKENS))
