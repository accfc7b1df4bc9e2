"""Two parallel files: line n of one is the text, line n of the other its label.

Lines end at \\n (or \\r\\n) only. Other separators, such as U+2028, belong to the text: taken for line ends they would
shift every label behind them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import zip_longest

from raysft.errors import DataError
from raysft.reading.batch import Columns, Gatherer, RawBatch
from raysft.reading.sources import Source
from raysft.reading.streams import Text, open_text

NAMES = ["text", "label"]


def read_lines(source: Source, columns: Columns) -> Iterator[RawBatch]:
    """Every line of a pair of files; a blank one is a row too. Raises DataError where one file has more lines."""
    with ExitStack() as stack:
        paths = [source.path] + ([source.label_path] if source.label_path else [])
        texts = [stack.enter_context(open_text(path, source.encoding)) for path in paths]
        here = Columns("text", "label" if source.label_path and columns.label else None)
        rows = Gatherer(here, texts[0].reason)
        for number, found in enumerate(zip_longest(*(text.lines for text in texts)), start=1):
            if None in found:
                raise _unequal(paths, texts, number, found)
            rows.add(number, dict(zip(NAMES, map(_line, found), strict=False)))
            position = sum(text.raw.position for text in texts)
            if rows.full(position):
                yield from rows.take(position)
        yield from rows.take()


def _line(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _unequal(paths: list[str], texts: list[Text], number: int, found: tuple[str | None, ...]) -> DataError:
    counts = [number - 1 if line is None else number for line in found]
    counts = [
        count if line is None else count + sum(1 for _ in text.lines)
        for count, line, text in zip(counts, found, texts, strict=True)
    ]
    told = " and ".join(f"{path} has {count} lines" for path, count in zip(paths, counts, strict=True))
    return DataError(f"{told}; they must have the same", "Line n of one file belongs to line n of the other.")
