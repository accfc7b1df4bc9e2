"""What one cell cannot tell: the separator between labels, whether times are dates, whether tags have prefixes.

Decided once for a corpus, from the first rows of all its files, so that equal cells mean the same in every row. A row
that is written otherwise is rejected with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from raysft.config.sections import DataSection
from raysft.corpus.cells import Unusable
from raysft.corpus.tags import BEGUN_TAGS, PLAIN_TAGS, PREFIXED_TAGS, begun, plain_types
from raysft.corpus.targets import separators_in, tags_in
from raysft.corpus.times import DATES_ONLY, NUMBERS_ONLY, compact_date, time_of
from raysft.reading.columns import Problem
from raysft.reading.records import Columns, read_batches
from raysft.reading.sources import Source

SAMPLE_ROWS = 1000  # of each file
FEW = 9  # times as many of the other form: then a cell is a slip and does not decide


def with_forms(columns: Columns, data: DataSection, task: str, sources: Sequence[Source], problem: Problem) -> Columns:
    """The columns with what the first rows tell of them.

    Raises what `problem` makes where more than one separator may stand between labels, NotFound, NotAllowed, DataError.
    """
    separator = tags = times = None
    if task == "classification" and data.multi_label and data.label_separator is None:
        separator = _separator(_first_cells(columns, "label", sources), columns, problem)
    if task == "token-classification":
        tags = _tags(_first_cells(columns, "label", sources))
    if columns.time is not None:
        times = _times(_first_cells(columns, "time", sources))
    return replace(columns, separator=separator, tags=tags, times=times)


def _first_cells(columns: Columns, role: str, sources: Sequence[Source]) -> Iterator[Any]:
    """The cells of one role in the first rows of every file, as far as they could be read."""
    few = Columns(columns.text, columns.label, time=columns.time)
    for source in sources:
        left = SAMPLE_ROWS
        for batch in read_batches(source, few):
            cells = list(zip(batch.cells.get(role, ()), batch.reason, strict=False))[:left]
            yield from (cell for cell, reason in cells if reason is None)
            left -= len(batch)
            if left <= 0:
                break


def _separator(cells: Iterator[Any], columns: Columns, problem: Problem) -> str | None:
    found = sorted(set().union(*map(separators_in, cells)))
    if len(found) > 1:
        text = f"the cells of {columns.label!r} have {' and '.join(found)}; write the one that stands between labels"
        raise problem("data.label_separator", text)
    return found[0] if found else None


def _tags(cells: Iterator[Any]) -> str | None:
    """BEGUN_TAGS where an entity without a beginning is a slip, and not how the corpus is written."""
    texts = [tags_in(cell) for cell in cells]
    plain = plain_types(tag for tags in texts for tag in tags)
    if plain is None or plain:
        return None if plain is None else PLAIN_TAGS
    as_begun, others = begun(texts)
    return BEGUN_TAGS if as_begun >= FEW * max(1, others) else PREFIXED_TAGS


def _times(cells: Iterator[Any]) -> str | None:
    """20240131 is a date among dates, and a number among numbers."""
    dates = compact = numbers = 0
    for cell in cells:
        if compact_date(cell) is not None:
            compact += 1
        elif _is_time(cell, DATES_ONLY):
            dates += 1
        elif _is_time(cell, NUMBERS_ONLY):
            numbers += 1
    if not dates + compact + numbers:
        return None
    as_dates = FEW * (dates + compact) >= numbers if dates else compact >= FEW * numbers
    return DATES_ONLY if as_dates else NUMBERS_ONLY


def _is_time(cell: Any, form: str) -> bool:
    try:
        time_of(cell, form)
    except Unusable:
        return False
    return True
