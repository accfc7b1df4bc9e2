"""The texts to predict, row after row: those of files, cleaned as training texts were, then the pasted ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from raysft.config.sections import DataSection
from raysft.corpus.cells import Unusable, shown, text_of
from raysft.corpus.cleaning import readable
from raysft.corpus.targets import plain_text
from raysft.errors import DataError, UsageError
from raysft.prediction.tally import error_of
from raysft.reading.batch import listed
from raysft.reading.records import FIXED, Columns, header, read_batches
from raysft.reading.sources import Source, require_encoding, sources_of

FORMATS: tuple[str, ...] = get_args(DataSection.model_fields["format"].annotation)
LINES = "lines"
PASTED = "--text"


@dataclass(frozen=True)
class Reading:
    """How files are read: the column with the text, and what `data.format` and `data.encoding` mean in a job."""

    column: str = "text"
    format: str = "auto"
    encoding: str = "auto"

    def instead(self, column: str | None, format: str | None, encoding: str | None) -> Reading:
        """The same with what was asked for, where something was. Raises UsageError, JobFileError (encoding)."""
        if format is not None and format not in FORMATS:
            raise UsageError(f"--format {format}: no such format", f"Allowed: {', '.join(FORMATS)}.")
        if encoding is not None:
            require_encoding(encoding, "--encoding")
        return Reading(column or self.column, format or self.format, encoding or self.encoding)


@dataclass(frozen=True)
class Row:
    """One row to predict; with a reason it cannot be used, and `text` is what people can read of it."""

    file: str
    line: int
    text: str  # clean, as training texts were
    reason: str = ""
    detail: str = ""
    original: str = ""  # as it was given, in whose characters entities are told; tokens are joined by spaces

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def error(self) -> str:
        return error_of(self.reason, self.detail)


def open_files(files: Sequence[str], reading: Reading) -> list[Source]:
    """The files of paths, globs and URIs, each once, with their column checked before anything is computed.

    Raises NotFound, NotAllowed, DataError (a format that is not known, an empty file, no such column).
    """
    found = list(dict.fromkeys(source for file in files for source in _sources(file, reading)))
    for source in found:
        _require_column(source, reading.column)
    return found


def rows_of(sources: Sequence[Source], texts: Sequence[str], column: str, tokens: bool = False) -> Iterator[Row]:
    """Every row of the files in order, then the texts, streaming. tokens: whether a row may be a list of tokens.

    Raises DataError for a damaged file.
    """
    for source in sources:
        for batch in read_batches(source, Columns(column, None)):
            for line, cell, reason, detail in zip(
                batch.line, batch.cells["text"], batch.reason, batch.detail, strict=True
            ):
                yield _row(source.path, line, cell, reason or "", detail, tokens)
    for number, text in enumerate(texts, start=1):
        yield _row(PASTED, number, text)


def _sources(file: str, reading: Reading) -> list[Source]:
    if reading.format != LINES:
        return sources_of(file, Path.cwd(), "test", reading.format, reading.encoding)
    # In a corpus, lines of text are refused without their file of labels; here they stand alone. So they are found
    # under the name of another text format.
    return [replace(found, format=LINES) for found in sources_of(file, Path.cwd(), "test", "csv", reading.encoding)]


def _require_column(source: Source, column: str) -> None:
    names = header(source)
    if source.format not in FIXED and column not in names:
        raise DataError(
            f"{source.path}: no column {column!r}; read as {source.format} it has: {listed(names)}",
            "Name the column with --column; if that is not its format, name it with --format.",
        )


def _row(file: str, line: int, cell: Any, reason: str = "", detail: str = "", tokens: bool = False) -> Row:
    """The row with its clean text, or with the reason for which training would reject it too."""
    listed_tokens = tokens and isinstance(cell, list | tuple)  # what only looks like a list is a text
    if not reason:
        try:
            text = plain_text(cell) if listed_tokens else text_of(cell, "text")
        except Unusable as problem:
            reason, detail = problem.reason, problem.detail
        else:
            if text:
                given = isinstance(cell, str) and not listed_tokens
                return Row(readable(file), line, text, original=cell if given else text)
            reason = "blank_text"
    return Row(readable(file), line, shown(cell), reason, readable(detail))
