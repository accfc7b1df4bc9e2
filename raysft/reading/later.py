"""Columns of JSON files that the first rows lack: each row has the keys that it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raysft.reading.batch import ROLES, Columns, slices
from raysft.reading.records import JSON, read_batches
from raysft.reading.sources import Source

MOST_ROWS = 10_000  # looked at, and at most some batches of 8 MB


def later_names(source: Source, names: Sequence[str]) -> list[str]:
    """Those of `names` under which one of the first rows of a JSON file has a value; none in other files.

    Raises NotFound, NotAllowed, DataError (damaged).
    """
    if source.format not in JSON:
        return []
    found: list[str] = []
    for part in slices(len(names), len(ROLES)):
        found += _carried(source, names[part])
    return found


def _carried(source: Source, names: Sequence[str]) -> list[str]:
    """As many names as there are roles can be read at once."""
    text, *others = names
    columns = replace(Columns(text, None), **dict(zip(ROLES[1:], others, strict=False)))  # type: ignore[arg-type]
    found: set[str] = set()
    rows = 0
    for batch in read_batches(source, columns):
        for role, name in columns.named.items():
            cells = zip(batch.cells[role], batch.reason, strict=True)
            if any(cell is not None and reason is None for cell, reason in cells):
                found.add(name)
        rows += len(batch)
        if rows >= MOST_ROWS or len(found) == len(names):
            break
    return [name for name in names if name in found]
