"""Labelling and scoring the rows of files with a finished model."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysft.config import Job
from raysft.config.sections import DataSection
from raysft.corpus.records import Columns, RawRow, expand, header, read_rows
from raysft.corpus.rows import TEST, check, clean, where
from raysft.errors import DataError, UsageError
from raysft.evaluation.evaluation import Evaluation, score
from raysft.events import Listener
from raysft.prediction.artifact import Artifact, Prediction
from raysft.storage.commit import write_bytes, writing

FORMATS = (".csv", ".jsonl")
PASTED = Path("--text")


def predict_files(
    folder: Path, files: Sequence[str], texts: Sequence[str], column: str
) -> tuple[list[tuple[Path, RawRow]], list[Prediction]]:
    """Every row of the files, then the texts, with a prediction each. A blank text is predicted like any other.

    Raises NotFound, DataError (no such column, a row that cannot be read).
    """
    artifact = Artifact.open(folder)
    rows = [(file, row) for file in expand(files, Path.cwd()) for row in _rows(file, Columns(column, None))]
    for file, row in rows:
        if row.reason:
            raise DataError(f"{file}:{row.line}: {row.reason} {row.detail}".rstrip(), "Mend or remove that row.")
    rows = [(file, replace(row, text=clean(row.text))) for file, row in rows]  # as training texts were
    rows += [(PASTED, RawRow(number, text, "", "")) for number, text in enumerate(texts, start=1)]
    if not rows:
        raise UsageError("nothing to predict", 'Name a file, or a text with --text "...".')
    return rows, artifact.predict([row.text for _, row in rows])


def require_writable_kind(path: Path) -> None:
    """Refuse an output that cannot be written, before anything is computed. Raises UsageError."""
    if path.suffix not in FORMATS:
        raise UsageError(
            f"--output {path}: cannot write {path.suffix or 'a file without ending'}",
            f"Allowed: {', '.join(FORMATS)}.",
        )


def write_predictions(path: Path, rows: Sequence[tuple[Path, RawRow]], predictions: Sequence[Prediction]) -> None:
    """One line per row: file, line, text, label, confidence. CSV or JSON Lines by the ending of `path`."""
    lines = [
        {
            "file": str(file),
            "line": row.line,
            "text": row.text,
            "label": found.label,
            "confidence": found.confidence,
        }
        for (file, row), found in zip(rows, predictions, strict=True)
    ]
    stream = io.StringIO()
    if path.suffix == ".csv":
        writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    else:
        stream.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    with writing(path):
        write_bytes(path, stream.getvalue().encode())


def _labelled_columns(file: Path, settings: DataSection) -> Columns:
    """The columns of the job; the group only where the file has it."""
    return Columns(settings.text, settings.label, settings.group if settings.group in header(file) else None)


def evaluate_files(folder: Path, files: Sequence[str], job: Job, listener: Listener) -> Evaluation:
    """Scores on other labelled files, which count as the test part. Raises DataError for labels the model lacks."""
    artifact = Artifact.open(folder)
    settings = job.config.data
    rows = [
        {"source": str(file), **check(row, columns)}
        for file in expand(files, Path.cwd())
        for columns in [_labelled_columns(file, settings)]
        for row in _rows(file, columns)
    ]
    kept = [row for row in rows if row["reason"] is None]
    listener.note(f"rows: {len(rows)} read = {len(kept)} kept + {len(rows) - len(kept)} rejected")
    if not kept:
        raise DataError("no usable row in the files", f"They need {settings.text} and {settings.label} in each row.")
    number = {label: index for index, label in enumerate(artifact.labels)}
    for row in kept:
        if row["label"] not in number:
            raise DataError(
                f"{row['source']}:{row['line']}: label {row['label']!r} is not one of the model's",
                f"The model knows: {', '.join(artifact.labels[:20])}.",
            )
    table = pa.Table.from_pylist([{**row, "origin": TEST} for row in kept])
    table = table.append_column("label_id", pa.array([number[str(row["label"])] for row in kept], pa.int32()))
    table = table.append_column("unit", pa.array(_units(kept)))
    scores = score(table, artifact.logits(table.column("text").to_pylist()), artifact.labels)
    return Evaluation(artifact.labels, scores, None, {}, "test")


def _rows(file: Path, columns: Columns) -> list[RawRow]:
    names = header(file)
    for name in columns.names:
        if name not in names:
            raise DataError(
                f"{file}: no column {name!r}; it has: {', '.join(names)}",
                "Name the column in the job file, or for predict with --column.",
            )
    return list(read_rows(file, columns))


def _units(rows: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    keys = [str(row["group"]) or where(str(row["source"]), index) for index, row in enumerate(rows)]
    return np.unique(keys, return_inverse=True)[1]


def to_json(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """What `raysft predict --json` prints."""
    return {"schema": "raysft.predictions/1", "predictions": [asdict(found) for found in predictions]}
