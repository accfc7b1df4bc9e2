"""CSV and TSV as people have them: quotes, newlines in fields, BOM, Windows line ends, `;` `|` and tab separators.

A row that cannot be parsed costs its first line and, where they may be part of it, a few lines behind it, each as one
rejected row: whatever stands in them is neither lost without a word nor taken for something else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from raysft.reading.batch import BATCH_ROWS, Columns, RawBatch, check_values, places_of, slices
from raysft.reading.csv_doubt import Block
from raysft.reading.csv_rows import Rows
from raysft.reading.decoding import readable
from raysft.reading.sources import Source
from raysft.reading.streams import Text, open_text

SEPARATORS = {"csv": ",;\t|", "tsv": "\t"}


def read_table(source: Source, columns: Columns) -> Iterator[RawBatch]:
    """Every row of a CSV or TSV file. A blank line is no row. Raises DataError."""
    with open_text(source.path, source.encoding, old_mac=True) as text:
        separator = _separator(text, SEPARATORS[source.format])
        rows = Rows(text, separator, source.path)
        places = places_of(columns, rows.header, source.path)
        for block in rows.blocks():
            for part in slices(len(block.line), BATCH_ROWS):
                yield _batch(block.part(part), places, len(rows.header), separator, text.reason)


def table_header(source: Source) -> list[str]:
    """The names in the first line that is not blank."""
    with open_text(source.path, source.encoding, old_mac=True) as text:
        return Rows(text, _separator(text, SEPARATORS[source.format]), source.path).header


def _separator(text: Text, candidates: str) -> str:
    """The candidate that splits the header into most columns; ties go to the first."""
    return max(candidates, key=lambda mark: _width(text, mark))


def _width(text: Text, separator: str) -> int:
    try:
        return len(next(filter(None, csv.reader(io.StringIO(text.sample, text.newline), delimiter=separator)), []))
    except csv.Error:
        return 0


def _batch(block: Block, places: dict[str, int], width: int, separator: str, bad_byte: str) -> RawBatch:
    count = len(block.line)
    batch = RawBatch(block.line, {}, [None] * count, [""] * count)
    if block.wrong or set(map(len, block.fields)) != {width}:
        _refuse_odd_rows(batch, block, places["text"], width, separator)
    batch.cells = {role: [fields[at] for fields in block.fields] for role, at in places.items()}
    check_values(batch, bad_byte)
    return batch


def _refuse_odd_rows(batch: RawBatch, block: Block, text: int, width: int, separator: str) -> None:
    """Rows that could not be parsed or have not as many fields as the header; their text is the line as it stands."""
    for at, fields in enumerate(block.fields):
        if at in block.wrong:
            batch.refuse(at, "malformed_csv", block.wrong[at])
        elif len(fields) != width:
            batch.refuse(
                at, "wrong_field_count", f"{len(fields)} fields, the header has {width}{_span(batch, at, fields)}"
            )
        else:
            continue
        block.fields[at] = [""] * width
        block.fields[at][text] = readable(separator.join(fields))


def _span(batch: RawBatch, at: int, fields: list[str]) -> str:
    """Which lines a row of several stands on: a stray quote may have joined them."""
    more = sum(value.count("\n") for value in fields)
    return f", lines {batch.line[at]} to {batch.line[at] + more}" if more else ""
