"""A file of predictions that grows aside while they are made, and takes its name when the last one is written."""

from __future__ import annotations

import csv
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from raysft.errors import OutputError, UsageError
from raysft.prediction.artifact import Prediction
from raysft.prediction.texts import Row
from raysft.storage.commit import ASIDE, writing

ENDINGS = (".csv", ".jsonl")
COLUMNS = ("file", "line", "text", "label", "confidence", "error")

Write = Callable[[Row, Prediction], None]


def require_writable_kind(path: Path) -> None:
    """Refuse an output that cannot be written, before anything is computed. Raises UsageError."""
    if path.suffix not in ENDINGS:
        raise UsageError(
            f"--output {path}: cannot write {path.suffix or 'a file without ending'}",
            f"Allowed: {', '.join(ENDINGS)}.",
        )
    if path.is_dir():
        raise UsageError(f"--output {path}: that is a folder", "Name a file in it.")


@contextmanager
def predictions_file(path: Path) -> Iterator[Write]:
    """Yield what writes one line: file, line, text, label, confidence, error; CSV or JSON Lines by the ending.

    After an exception nothing is left, and an older `path` stays as it was. Raises OutputError (no space, no
    permission).
    """
    aside = path.with_name(f"{path.name}{ASIDE}{uuid.uuid4().hex[:8]}")
    opened = _open(aside, path)
    with writing(path):
        try:
            with opened as file:
                yield _csv(file) if path.suffix == ".csv" else _json_lines(file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def _open(aside: Path, path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return aside.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", "Name another file with --output.") from None


def _csv(file: IO[str]) -> Write:
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    return lambda row, found: writer.writerow(_line(row, found))


def _json_lines(file: IO[str]) -> Write:
    def write(row: Row, found: Prediction) -> None:
        file.write(json.dumps(_line(row, found), ensure_ascii=False) + "\n")

    return write


def _line(row: Row, found: Prediction) -> dict[str, Any]:
    """A row that could not be predicted has an empty label, no confidence and its error; the others have no error."""
    values = (row.file, row.line, found.text, found.label, found.confidence, found.error)
    return dict(zip(COLUMNS, values, strict=True))
