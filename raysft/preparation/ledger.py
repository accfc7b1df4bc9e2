"""findings.parquet: every row that a check found something about, whatever became of it, one line a row and finding.

audit.json shows the first few of each finding; here a person filters and joins all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysft.preparation.books import OTHER, Books, Found

FINDINGS = pa.schema(
    [
        ("row_id", pa.int64()),
        ("source", pa.string()),  # path of the file
        ("line", pa.int64()),  # first line of the row in it
        ("finding", pa.string()),  # its name in audit.json
        ("action", pa.string()),  # what was done about this row: report, drop, quarantine
        ("other_source", pa.string()),  # the row that shows it; null where it is not about two rows
        ("other_line", pa.int64()),
        ("detail", pa.string()),
    ]
)
STRETCH = 20_000  # lines made at once
Array = np.ndarray[Any, Any]


def write_findings(books: Books, path: Path) -> None:
    """Write the ledger in the order of row_id, then finding; a file without lines where nothing was found."""
    ledger = sorted(books.ledger, key=lambda entry: entry[0].finding)
    entry = np.repeat(np.arange(len(ledger)), [len(found.rows) for found, _ in ledger])
    row, other = (
        np.concatenate([np.zeros(0, np.int64), *parts])
        for parts in ([found.rows for found, _ in ledger], [found.other for found, _ in ledger])
    )
    details = [detail for found, _ in ledger for detail in found.details or [""] * len(found.rows)]
    order = np.lexsort((entry, row))
    with pq.ParquetWriter(str(path), FINDINGS, compression="zstd") as file:
        for start in range(0, len(order), STRETCH):
            at = order[start : start + STRETCH]
            entries = [ledger[number] for number in entry[at].tolist()]
            file.write_table(_lines(books, row[at], other[at], entries, [details[place] for place in at.tolist()]))


def _lines(books: Books, row: Array, other: Array, entries: list[tuple[Found, str]], details: list[str]) -> pa.Table:
    """Some lines; details are empty where the other row says it."""
    alone = other < 0
    files, shown = books.places.files_of(other), books.places.where(other)  # of the last row where there is no other
    columns = [
        pa.array(row),
        pa.array(books.places.files_of(row), pa.string()),
        pa.array(books.places.line[row]),
        pa.array([found.finding for found, _ in entries], pa.string()),
        pa.array([action for _, action in entries], pa.string()),
        pa.array(files, pa.string(), mask=alone),
        pa.array(books.places.line[other], mask=alone),
        pa.array(
            [
                detail or f"{OTHER[found.reason]} {where}"
                for (found, _), detail, where in zip(entries, details, shown, strict=True)
            ],
            pa.string(),
        ),
    ]
    return pa.Table.from_arrays(columns, schema=FINDINGS)
