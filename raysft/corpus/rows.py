"""The canonical row: what stands in the corpus whatever file it came from. Every raw row becomes one; none is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from raysft.corpus.answers import Answering
from raysft.corpus.cells import TEST, TRAIN, VALIDATION, Unusable, group_of, part_of, shown, text_of
from raysft.corpus.cleaning import clean, readable, same_text
from raysft.corpus.messages import conversation, turns_of
from raysft.corpus.tags import BEGUN_TAGS, PLAIN_TAGS
from raysft.corpus.targets import label_set, one_label, plain_text, tagged_text
from raysft.corpus.template import TemplateRefuses
from raysft.corpus.times import time_of

if TYPE_CHECKING:
    from raysft.reading.records import Columns, RawBatch
    from raysft.reading.sources import Source

__all__ = [
    "ROW", "TEST", "TRAIN", "VALIDATION", "Meaning", "canonical", "clean", "concat", "readable", "same_text", "where",
]  # fmt: skip

ROW = pa.schema(
    [
        ("origin", pa.string()),  # train | validation | test: from the key that named the file, or from data.split
        ("source", pa.string()),  # path of the file
        ("line", pa.int64()),  # first line of the row in the file, from 1
        ("text", pa.string()),  # what the model reads, clean; generation: the turns before the last answer, one a line
        ("label", pa.string()),  # what it shall say, see corpus/targets.py; generation: the last answer
        ("record", pa.string()),  # generation: JSON list of {"role", "content"}; else null
        ("group", pa.string()),  # "" without a group column
        ("time", pa.float64()),  # seconds since 1970 of a date, or the number as it is; null without a time column
        ("reason", pa.string()),  # null: kept
        ("detail", pa.string()),
    ]
)

T = TypeVar("T")
Target = tuple[str, str, str | None]  # text, label, record
Build = Callable[[Any, Any, Any], Target]  # from the cells of text, label and context


@dataclass(frozen=True)
class Meaning:
    """How cells become targets, from the job file."""

    task: str  # classification | token-classification | generation
    multi_label: bool = False
    label_separator: str | None = None
    answering: Answering | None = None  # generation: must be able to write each conversation; None: not tried


def canonical(batch: RawBatch, source: Source, columns: Columns, meaning: Meaning) -> pa.Table:
    """Raw rows -> canonical rows in schema ROW: as many, in the same order.

    What cannot be used has the name of the first thing wrong as its reason, and stays readable. Nothing is raised for
    what a cell holds.
    """
    size = len(batch.line)
    reason, detail = list(batch.reason), list(batch.detail)
    nothing: list[Any] = [None] * size
    cells = [batch.cells.get(role, nothing) for role in ("text", "label", "context")]
    text, label, record = _targets(cells, _builder(meaning, columns), reason, detail)
    group: list[str] = [""] * size
    if columns.group:
        group = _parsed(batch.cells.get("group", nothing), group_of, "", columns.group, (reason, detail))
    time: list[float | None] = nothing
    if columns.time:
        read = partial(time_of, form=columns.times)
        time = _parsed(batch.cells.get("time", nothing), read, None, columns.time, (reason, detail))
    origin = [source.origin] * size
    if columns.split and "split" in batch.cells:
        origin = _parsed(batch.cells["split"], part_of, source.origin, columns.split, (reason, detail))
    path = [readable(source.path)] * size
    shown_detail = [readable(each) for each in detail]
    values: list[Sequence[Any]]
    values = [origin, path, batch.line, text, label, record, group, time, reason, shown_detail]
    arrays = [pa.array(found, field.type) for found, field in zip(values, ROW, strict=True)]
    return pa.Table.from_arrays(arrays, schema=ROW)


def where(source: str, line: int) -> str:
    """`tickets.csv:12`, for details and messages."""
    return f"{Path(source).name}:{line}"


def concat(tables: Iterable[pa.Table]) -> pa.Table:
    """Tables one after the other, in the canonical schema even when there is none."""
    return pa.concat_tables([ROW.empty_table(), *tables]).combine_chunks()


def _targets(
    cells: Sequence[Sequence[Any]], build: Build, reason: list[str | None], detail: list[str]
) -> tuple[list[str], list[str], list[str | None]]:
    """Text, label and record of each row; of a row that cannot be used what people can read."""
    texts: list[str] = []
    labels: list[str] = []
    records: list[str | None] = []
    for index, (text_cell, label_cell, context_cell) in enumerate(zip(*cells, strict=True)):
        text = None
        if reason[index] is None:
            try:
                text, label, record = build(text_cell, label_cell, context_cell)
            except Unusable as problem:
                reason[index], detail[index] = problem.reason, problem.detail
        if text is None:
            text, label, record = shown(text_cell), shown(label_cell), None
        texts.append(text)
        labels.append(label)
        records.append(record)
    return texts, labels, records


def _parsed(
    cells: Sequence[Any], parse: Callable[[Any], T], otherwise: T, column: str, why: tuple[list[str | None], list[str]]
) -> list[T]:
    """Each cell parsed; a problem is the row's reason if it has none yet."""
    reason, detail = why
    found: list[T] = []
    for index, cell in enumerate(cells):
        try:
            found.append(parse(cell))
        except Unusable as problem:
            found.append(otherwise)
            if reason[index] is None:
                reason[index], detail[index] = problem.reason, problem.detail or f"no value in column {column}"
    return found


def _builder(meaning: Meaning, columns: Columns) -> Build:
    """What makes text, label and record of the cells of a row."""
    if meaning.task == "generation":
        return _answered(meaning.answering, columns.context_is_system)
    if columns.label is None:
        return _unlabelled
    if meaning.task == "token-classification":
        return _tagged(columns.tags)
    if meaning.multi_label:
        return _classified(lambda cell: label_set(cell, meaning.label_separator, columns.separator))
    return _classified(one_label)


def _answered(answering: Answering | None, context_is_system: bool) -> Build:
    """A conversation that the template can write, and whose answer is not cut: tried here, where a row can still be
    left out and its line named."""

    def build(text_cell: Any, label_cell: Any, context_cell: Any) -> Target:
        found = conversation(text_cell, label_cell, context_cell, context_is_system)
        try:
            if answering is not None:
                answering.require_fit(turns_of(found[2]))
        except TemplateRefuses as refusal:
            raise Unusable("template_refuses", str(refusal)) from None
        return found

    return build


def _unlabelled(text_cell: Any, label_cell: Any, context_cell: Any) -> Target:
    text = plain_text(text_cell)
    if not text:
        raise Unusable("blank_text")
    return text, "", None


def _tagged(form: str | None) -> Build:
    """form: how the tags of the corpus are written, see corpus/forms.py."""
    plain, strict = None if form is None else form == PLAIN_TAGS, form == BEGUN_TAGS
    return lambda text_cell, label_cell, context_cell: (*tagged_text(text_cell, label_cell, plain, strict), None)


def _classified(read: Callable[[Any], str]) -> Build:
    """Labels repeat, so each spelling is read once; only texts, since 1 and True would be one key."""
    known: dict[str, str] = {}

    def build(text_cell: Any, label_cell: Any, context_cell: Any) -> Target:
        text = text_of(text_cell, "text")
        if not text:
            raise Unusable("blank_text")
        if type(label_cell) is not str:
            return text, read(label_cell), None
        label = known.get(label_cell)
        if label is None:
            label = known[label_cell] = read(label_cell)
        return text, label, None

    return build
