"""Files to read, and what was read of them in a form that tests can compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysft.reading.records import Columns, RawBatch, read_batches
from raysft.reading.sources import Source

BOTH = Columns("text", "label")
CORPORA = Path(__file__).parents[2] / ".." / "shared" / "data"
NO_CORPORA = "the folder shared/data with real corpora is not beside this checkout"

Seen = tuple[int, Any, Any, str | None]  # line, text, label, reason


def write(folder: Path, content: str | bytes, name: str = "rows.csv") -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def source(path: Path | str, format: str | None = None, encoding: str = "auto") -> Source:
    """A training file; its format by the ending."""
    ending = Path(path).suffix.lstrip(".")
    return Source("train", str(path), format or {"ndjson": "jsonl"}.get(ending, ending), None, encoding)


def batches(of: Source, columns: Columns = BOTH) -> Iterator[RawBatch]:
    """Its batches; each holds lists of one length and not too many rows."""
    for batch in read_batches(of, columns):
        lists: list[list[Any]] = [batch.line, batch.reason, batch.detail, *batch.cells.values()]
        assert {len(each) for each in lists} == {len(batch)} and 0 < len(batch) <= 4096
        assert set(batch.cells) == set(columns.named) or of.format in {"lines", "conll"}
        yield batch


def seen(of: Source, columns: Columns = BOTH) -> list[Seen]:
    """Every row as (line, text, label, reason)."""
    found: list[Seen] = []
    for batch in batches(of, columns):
        labels = batch.cells.get("label", [None] * len(batch))
        found += zip(batch.line, batch.cells["text"], labels, batch.reason, strict=True)
    return found


def details(of: Source, columns: Columns = BOTH) -> list[str]:
    """What is said about each row."""
    return [detail for batch in batches(of, columns) for detail in batch.detail]


def read(folder: Path, content: str | bytes, name: str = "rows.csv", encoding: str = "auto") -> list[Seen]:
    """The rows of a file with this content."""
    return seen(source(write(folder, content, name), encoding=encoding))
