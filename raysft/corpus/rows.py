"""The canonical row and the first check of each: what stands in the corpus whatever file it came from."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from raysft.corpus.records import Columns, RawRow, read_rows

TRAIN, VALIDATION, TEST = "train", "validation", "test"

ROW = pa.schema(
    [
        ("origin", pa.string()),  # train | validation | test: which setting named the file
        ("source", pa.string()),  # path of the file
        ("line", pa.int64()),  # first line of the row in the file, from 1
        ("text", pa.string()),
        ("label", pa.string()),
        ("group", pa.string()),  # "" without a group column
        ("reason", pa.string()),  # null: kept
        ("detail", pa.string()),
    ]
)
BATCH_ROWS = 4096


def tables_of(file: Path, origin: str, columns: Columns) -> Iterator[pa.Table]:
    """One file as tables of checked rows, at most BATCH_ROWS each."""
    batch: list[dict[str, object]] = []
    for row in read_rows(file, columns):
        batch.append({"origin": origin, "source": str(file), **check(row, columns)})
        if len(batch) == BATCH_ROWS:
            yield pa.Table.from_pylist(batch, schema=ROW)
            batch = []
    yield pa.Table.from_pylist(batch, schema=ROW)


def check(row: RawRow, columns: Columns) -> dict[str, object]:
    """Clean one row and give it a reason when it cannot be used."""
    text, label, group = clean(row.text), clean(row.label), clean(row.group)
    reason, detail = row.reason, row.detail
    if reason is None and not text:
        reason = "blank_text"
    if reason is None and columns.label and not label:
        reason = "missing_label"
    if reason is None and columns.group and not group:
        reason, detail = "missing_group", f"no value in column {columns.group}"
    return {
        "line": row.line,
        "text": text,
        "label": label,
        "group": group,
        "reason": reason,
        "detail": detail,
    }


def clean(text: str) -> str:
    """Canonical Unicode (NFC), no control characters, single line ends, no space around."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    return unicodedata.normalize("NFC", text).strip()


def same_text(text: str) -> str:
    """The key under which two texts count as the same: case and spacing aside."""
    return " ".join(text.casefold().split())


def where(source: str, line: int) -> str:
    """`tickets.csv:12`, for details and messages."""
    return f"{Path(source).name}:{line}"


def concat(tables: Iterable[pa.Table]) -> pa.Table:
    """Tables one after the other, in the canonical schema even when there is none."""
    return pa.concat_tables([ROW.empty_table(), *tables]).combine_chunks()
