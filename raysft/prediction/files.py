"""Labelling the rows of files with a finished model, a bounded batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raysft.errors import DataError, UsageError
from raysft.events import Listener
from raysft.prediction.artifact import Artifact, Prediction
from raysft.prediction.output import predictions_file
from raysft.prediction.tally import Tally
from raysft.prediction.texts import Reading, Row, open_files, prompts_of, rows_of

# Within a batch rows of like length are computed together. Larger batches hardly save padding, but take memory.
BATCH_ROWS = 2000
BATCH_CHARACTERS = 4 << 20  # a batch of long texts ends earlier
ANSWERED_ROWS = 256  # answers take long to write, and are seen batch by batch

SCHEMA = "raysft.predictions/1"


@dataclass(frozen=True)
class Written:
    """What was written to `output`: rows = predicted + all that are in `unusable` (reason -> rows)."""

    output: str
    rows: int
    predicted: int
    unusable: dict[str, int]


def predict_files(
    artifact: Artifact, files: Sequence[str], texts: Sequence[str], reading: Reading, listener: Listener
) -> list[Prediction]:
    """Every row of the files, then the texts, with a prediction each; of a row that cannot be used with its error.

    Raises UsageError (nothing to predict), NotFound, DataError (no such column, a damaged file, no usable row).
    """
    tally = Tally()
    found = [prediction for _, prediction in _predicted(artifact, files, texts, reading, tally)]
    _conclude(tally, listener)
    return found


def write_predictions(
    output: Path, artifact: Artifact, files: Sequence[str], texts: Sequence[str], reading: Reading, listener: Listener
) -> Written:
    """The same, written to `output` as it is computed, so that memory does not grow with the input.

    Raises also OutputError. After an error there is no new `output`.
    """
    tally = Tally()
    with predictions_file(output) as write:
        for row, prediction in _predicted(artifact, files, texts, reading, tally):
            write(row, prediction)
        _conclude(tally, listener)
    return Written(str(output), tally.read, tally.read - tally.left_out, dict(tally.reasons.most_common()))


def predict_rows(artifact: Artifact, rows: Iterable[Row], tally: Tally) -> Iterator[tuple[Row, Prediction]]:
    """Each row with its prediction, in order; never holds more than a batch of them."""
    for batch in _batches(rows, BATCH_ROWS if artifact.answerer is None else ANSWERED_ROWS):
        predictions = iter(_predictions(artifact, batch, tally.read))
        for row in batch:
            tally.read += 1
            if row.reason:
                tally.leave_out(row.where, row.error, row.reason)
                yield row, Prediction(row.text, "", None, {}, row.error)
            else:
                yield row, next(predictions)


def _predictions(artifact: Artifact, batch: Sequence[Row], first: int) -> list[Prediction]:
    """Of the rows of a batch that can be used. first: rows read before it."""
    usable = [(number, row) for number, row in enumerate(batch, start=first) if not row.reason]
    if artifact.answerer is not None:
        return artifact.answer([list(row.turns) for _, row in usable], [number for number, _ in usable])
    return artifact.predict([row.text if artifact.tagger is None else row.original for _, row in usable])


def to_json(found: Sequence[Prediction] | Written) -> dict[str, Any]:
    """What `raysft predict --json` prints: the predictions, or what was written where."""
    if isinstance(found, Written):
        return {"schema": SCHEMA, **asdict(found)}
    return {"schema": SCHEMA, "predictions": [asdict(each) for each in found]}


def _predicted(
    artifact: Artifact, files: Sequence[str], texts: Sequence[str], reading: Reading, tally: Tally
) -> Iterator[tuple[Row, Prediction]]:
    if not files and not texts:
        raise UsageError("nothing to predict", 'Name a file, or a text with --text "...".')
    sources = open_files(files, reading)
    if artifact.answerer is not None:
        rows = prompts_of(sources, texts, reading.column, reading.context, artifact.answerer.prompts.template)
    else:
        rows = rows_of(sources, texts, reading.column, tokens=artifact.tagger is not None)
    return predict_rows(artifact, rows, tally)


def _batches(rows: Iterable[Row], most: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row.text)
        if len(batch) >= most or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _conclude(tally: Tally, listener: Listener) -> None:
    """Say which rows have no prediction. Raises DataError when none has one."""
    if tally.left_out == tally.read:
        why = f": {tally.reasons_said()}" if tally.read else ""
        first = f"The first: {tally.first}. " if tally.read else ""
        raise DataError(
            f"none of {tally.read} rows can be predicted{why}",
            f"{first}Mend the rows; or name how the files are read with --column, --format or --encoding.",
        )
    if tally.left_out:
        listener.warn(
            f"{tally.left_out} of {tally.read} rows have no prediction, their error says why "
            f"({tally.reasons_said()}); the first: {tally.first}"
        )
