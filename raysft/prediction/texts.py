"""The texts to predict, row after row: those of files, cleaned as training texts were, then the pasted ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from raysft.config.sections import DataSection
from raysft.corpus.cells import Unusable, shown, text_of
from raysft.corpus.cleaning import readable
from raysft.corpus.messages import Turn, prompt, said
from raysft.corpus.targets import plain_text
from raysft.corpus.template import Template, TemplateRefuses
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
    """How files are read: the columns that count, and what `data.format` and `data.encoding` mean in a job."""

    column: str = "text"
    format: str = "auto"
    encoding: str = "auto"
    context: str | None = None  # column with what belongs to a prompt, where answers are written; files may lack it

    def instead(self, column: str | None, format: str | None, encoding: str | None) -> Reading:
        """The same with what was asked for, where something was. Raises UsageError, JobFileError (encoding)."""
        if format is not None and format not in FORMATS:
            raise UsageError(f"--format {format}: no such format", f"Allowed: {', '.join(FORMATS)}.")
        if encoding is not None:
            require_encoding(encoding, "--encoding")
        return Reading(column or self.column, format or self.format, encoding or self.encoding, self.context)


@dataclass(frozen=True)
class Row:
    """One row to predict; with a reason it cannot be used, and `text` is what people can read of it."""

    file: str
    line: int
    text: str  # clean, as training texts were
    reason: str = ""
    detail: str = ""
    original: str = ""  # as it was given, in whose characters entities are told; tokens are joined by spaces
    turns: Sequence[Turn] = ()  # where answers are written: the conversation so far, `text` is what is said in it

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
    for path, line, (cell, _), reason, detail in _cells(sources, texts, Columns(column, None)):
        yield _row(path, line, cell, reason, detail, tokens)


def prompts_of(
    sources: Sequence[Source], texts: Sequence[str], column: str, context: str | None, template: Template
) -> Iterator[Row]:
    """The same where answers are written: a cell is a prompt, or the messages of a conversation; an answer at the end
    of it is written anew.

    Raises DataError for a damaged file.
    """
    columns = Columns(column, None, None if context == column else context)
    for path, line, cells, reason, detail in _cells(sources, texts, columns):
        try:
            if reason:
                raise Unusable(reason, detail)
            turns = prompt(*cells, context_is_system=columns.context_is_system)
            template.prompt(turns)
        except Unusable as problem:
            yield Row(readable(path), line, shown(cells[0]), problem.reason, readable(problem.detail))
        except TemplateRefuses as refusal:
            yield Row(readable(path), line, said(turns), "template_refuses", readable(str(refusal)))
        else:
            yield Row(readable(path), line, said(turns), turns=turns)


def _cells(
    sources: Sequence[Source], texts: Sequence[str], columns: Columns
) -> Iterator[tuple[str, int, tuple[Any, Any], str, str]]:
    """(file, line, cells of text and context, reason, detail) of every row of the files, then of the texts."""
    for source in sources:
        for batch in read_batches(source, columns):
            contexts = batch.cells.get("context", [None] * len(batch))
            cells = zip(batch.cells["text"], contexts, strict=True)
            for line, both, reason, detail in zip(batch.line, cells, batch.reason, batch.detail, strict=True):
                yield source.path, line, both, reason or "", detail
    for number, text in enumerate(texts, start=1):
        yield PASTED, number, (text, None), "", ""


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
