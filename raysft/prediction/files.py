"""Labelling and scoring the rows of files with a finished model."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysft.config import Job
from raysft.corpus.cleaning import clean
from raysft.corpus.rows import Meaning, canonical, concat
from raysft.errors import DataError, UsageError
from raysft.evaluation.evaluation import Evaluation, score
from raysft.events import Listener
from raysft.prediction.artifact import Artifact, Prediction
from raysft.reading.columns import Columns, resolve_columns
from raysft.reading.records import header, read_batches
from raysft.reading.sources import Source, sources_of
from raysft.storage.commit import write_bytes, writing

FORMATS = (".csv", ".jsonl")
PASTED = "--text"


@dataclass(frozen=True)
class Place:
    """Where a text to predict stands."""

    file: str
    line: int


def predict_files(
    folder: Path, files: Sequence[str], texts: Sequence[str], column: str
) -> tuple[list[Place], list[Prediction]]:
    """Every row of the files, then the texts, with a prediction each. A blank text is predicted like any other.

    Raises NotFound, DataError (no such column, a row that cannot be read).
    """
    artifact = Artifact.open(folder)
    places: list[Place] = []
    found: list[str] = []
    for source in _sources(files):
        for line, text in _texts(source, column):
            places.append(Place(source.path, line))
            found.append(text)
    places += [Place(PASTED, number) for number in range(1, len(texts) + 1)]
    found += texts
    if not places:
        raise UsageError("nothing to predict", 'Name a file, or a text with --text "...".')
    return places, artifact.predict(found)


def _sources(files: Sequence[str]) -> list[Source]:
    return list(dict.fromkeys(source for file in files for source in sources_of(file, Path.cwd(), origin="test")))


def _texts(source: Source, column: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every row, cleaned as training texts were. Raises DataError for a row that cannot be read."""
    names = header(source)
    if column not in names:
        raise DataError(
            f"{source.path}: no column {column!r}; it has: {', '.join(names)}",
            "Name the column in the job file, or for predict with --column.",
        )
    for batch in read_batches(source, Columns(column, None)):
        for line, cell, reason, detail in zip(batch.line, batch.cells["text"], batch.reason, batch.detail, strict=True):
            if reason:
                raise DataError(f"{source.path}:{line}: {reason} {detail}".rstrip(), "Mend or remove that row.")
            yield line, clean(cell if isinstance(cell, str) else "" if cell is None else str(cell))


def require_writable_kind(path: Path) -> None:
    """Refuse an output that cannot be written, before anything is computed. Raises UsageError."""
    if path.suffix not in FORMATS:
        raise UsageError(
            f"--output {path}: cannot write {path.suffix or 'a file without ending'}",
            f"Allowed: {', '.join(FORMATS)}.",
        )


def write_predictions(path: Path, places: Sequence[Place], predictions: Sequence[Prediction]) -> None:
    """One line per row: file, line, text, label, confidence. CSV or JSON Lines by the ending of `path`."""
    lines = [
        {
            "file": place.file,
            "line": place.line,
            "text": found.text,
            "label": found.label,
            "confidence": found.confidence,
        }
        for place, found in zip(places, predictions, strict=True)
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


def evaluate_files(folder: Path, files: Sequence[str], job: Job, listener: Listener) -> Evaluation:
    """Scores on other labelled files, which count as the test part. Raises DataError for labels the model lacks."""
    artifact = Artifact.open(folder)
    rows = concat(_labelled(source, job) for source in _sources(files))
    kept = rows.filter(pc.is_null(rows.column("reason")))
    listener.note(f"rows: {rows.num_rows} read = {kept.num_rows} kept + {rows.num_rows - kept.num_rows} rejected")
    if not kept.num_rows:
        raise DataError("no usable row in the files", "They need a text and a label in each row.")
    number = {label: index for index, label in enumerate(artifact.labels)}
    labels = kept.column("label").to_pylist()
    for index, label in enumerate(labels):
        if label not in number:
            row = kept.slice(index, 1).to_pylist()[0]
            raise DataError(
                f"{row['source']}:{row['line']}: label {label!r} is not one of the model's",
                f"The model knows: {', '.join(artifact.labels[:20])}.",
            )
    kept = kept.append_column("label_id", pa.array([number[label] for label in labels], pa.int32()))
    kept = kept.append_column("unit", pa.array(_units(kept)))
    scores = score(kept, artifact.logits(kept.column("text").to_pylist()), artifact.labels)
    return Evaluation(artifact.labels, scores, None, {}, "test")


def _labelled(source: Source, job: Job) -> pa.Table:
    """All rows of one file by the columns of the job; its group where the file has it, its time and split never."""
    data = job.config.data
    group = data.group if data.group in header(source) else None
    data = data.model_copy(update={"group": group, "time": None, "split": None})
    columns = resolve_columns(data, job.config.task, [source], job.problem)
    meaning = Meaning(job.config.task, data.multi_label, data.label_separator)
    return concat(canonical(batch, source, columns, meaning) for batch in read_batches(source, columns))


def _units(rows: pa.Table) -> np.ndarray[Any, Any]:
    """Rows of one group belong together; each of the others stands for itself."""
    groups = rows.column("group").to_pylist()
    return np.unique([group or f"\0{index}" for index, group in enumerate(groups)], return_inverse=True)[1]


def to_json(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """What `raysft predict --json` prints."""
    return {"schema": "raysft.predictions/1", "predictions": [asdict(found) for found in predictions]}
