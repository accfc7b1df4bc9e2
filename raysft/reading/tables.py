"""CSV and TSV as people have them: quotes, newlines in fields, BOM, Windows line ends, `;` `|` and tab separators.

A row that cannot be parsed costs itself and the lines its open quote took with it, each as one rejected row: whatever
stands in them is neither lost without a word nor taken for something else.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from raysft.errors import DataError
from raysft.reading.batch import BATCH_ROWS, Columns, RawBatch, check_values, places_of, slices
from raysft.reading.decoding import readable
from raysft.reading.sources import Source
from raysft.reading.streams import Text, open_text

SEPARATORS = {"csv": ",;\t|", "tsv": "\t"}
MAX_FIELD = 1 << 25  # characters; a quote that is never closed would else take the whole file into memory
MAX_LINES = 1 << 20  # of one row
BLOCK = 1 << 19  # characters


def read_table(source: Source, columns: Columns) -> Iterator[RawBatch]:
    """Every row of a CSV or TSV file. A blank line is no row. Raises DataError."""
    with open_text(source.path, source.encoding, old_mac=True) as text:
        separator = _separator(text, SEPARATORS[source.format])
        reader = _Reader(text, separator)
        names = reader.header(source.path)
        places = places_of(columns, names, source.path)
        for block in reader.blocks():
            for part in slices(len(block.line), BATCH_ROWS):
                yield _batch(block.part(part), places, len(names), separator, text.reason)


def table_header(source: Source) -> list[str]:
    """The names in the first line that is not blank."""
    with open_text(source.path, source.encoding, old_mac=True) as text:
        return _Reader(text, _separator(text, SEPARATORS[source.format])).header(source.path)


@dataclass
class _Block:
    """Consecutive rows: first line, fields, and what is wrong with those that could not be parsed."""

    line: list[int] = field(default_factory=list)
    fields: list[list[str]] = field(default_factory=list)
    wrong: dict[int, str] = field(default_factory=dict)

    def add(self, line: int, fields: list[str], wrong: str = "") -> None:
        if wrong:
            self.wrong[len(self.line)] = wrong
        self.line.append(line)
        self.fields.append(fields)

    def part(self, cut: slice) -> _Block:
        wrong = {index - cut.start: said for index, said in self.wrong.items() if cut.start <= index < cut.stop}
        return _Block(self.line[cut], self.fields[cut], wrong)


class _Reader:
    """A csv.reader that knows the lines of each row, and goes on behind a row that cannot be parsed.

    Lines are read in blocks. Where each line of a block is one row, nothing is done row by row; else the block is read
    again with care.
    """

    def __init__(self, text: Text, separator: str) -> None:
        self._text = text.lines
        self._separator = separator
        self._ahead: deque[str] = deque()  # lines of the block that is read with care
        self._taken: list[str] = []  # lines of the row that is being read
        self._done = 0  # lines of all rows before
        self._suspect = False  # a row may begin inside a field
        self._doubtful: list[int] = []  # rows of this block that may be inside one
        csv.field_size_limit(MAX_FIELD)

    def header(self, shown: str) -> list[str]:
        """Names of the columns. Raises DataError where there is none."""
        try:
            fields = next(filter(None, csv.reader(self._take(), delimiter=self._separator)), [])
        except csv.Error as error:
            raise DataError(f"{shown}: the header cannot be read ({error})", "Is it a CSV file?") from None
        if not fields:
            raise DataError(f"{shown}: the file is empty", "It needs a header line and rows.")
        self._finish()
        return [readable(name).strip() for name in fields]

    def blocks(self) -> Iterator[_Block]:
        """Rows and, in their place, the lines that could not be parsed."""
        while lines := self._text.readlines(BLOCK):
            yield self._plain(lines) or self._careful(lines)

    def _plain(self, lines: list[str]) -> _Block | None:
        """Rows of one line each; None where it is not so simple."""
        if self._suspect:
            return None
        try:
            rows = list(csv.reader(lines, delimiter=self._separator, strict=True))
        except csv.Error:
            return None
        if len(rows) != len(lines):
            return None
        first, self._done = self._done + 1, self._done + len(lines)
        numbers = list(range(first, self._done + 1))
        if not all(rows):
            numbers = [number for number, fields in zip(numbers, rows, strict=True) if fields]
        return _Block(numbers, [fields for fields in rows if fields])

    def _careful(self, lines: list[str]) -> _Block:
        """Row by row, to the end of the block and of the row that goes on behind it."""
        self._ahead.extend(lines)
        block = _Block()
        self._doubtful = []
        while self._ahead:
            try:
                self._parse(block)
            except csv.Error as error:
                self._refuse(block, str(error))
                self._suspect = True
        return block

    def _parse(self, block: _Block) -> None:
        # Strict, since a quote that is never closed would else take the rows behind it without a word.
        for fields in csv.reader(self._take(), delimiter=self._separator, strict=True):
            if fields and self._suspect and self._ends_a_field():
                self._refuse(block, "the end of a field whose beginning could not be parsed")
                self._suspect = False
            elif fields:
                if self._suspect:
                    self._doubtful.append(len(block.line))
                block.add(self._done + 1, fields)
            self._finish()
            if not self._ahead:
                return

    def _ends_a_field(self) -> bool:
        """Whether the row is the rest of a field that began in lines before: it has half a pair of quotes.

        A row that opens and closes its quotes shows that it and those before it are none, and ends the suspicion.
        """
        line = "".join(self._taken)
        if line.count('"') % 2:
            return True
        if line.startswith('"') or f'{self._separator}"' in line:
            self._suspect, self._doubtful = False, []
        return False

    def _refuse(self, block: _Block, why: str) -> None:
        """Each line of the row that is being read becomes a row of its own that cannot be used; so do doubtful ones."""
        first, last = self._done + 1, self._done + len(self._taken)
        detail = why if first == last else f"{why}, lines {first} to {last}"
        block.wrong.update(dict.fromkeys(self._doubtful, f"perhaps part of the field that ends in line {last}"))
        self._doubtful = []
        for number, line in enumerate(self._taken, start=first):
            if line.strip("\r\n"):
                block.add(number, [line.strip("\r\n")], detail)
        self._finish()

    def _finish(self) -> None:
        self._done += len(self._taken)
        self._taken.clear()

    def _take(self) -> Iterator[str]:
        """The lines of the block, then those of the file behind it."""
        while line := self._ahead.popleft() if self._ahead else self._text.readline():
            self._taken.append(line)
            if len(self._taken) > MAX_LINES:
                raise csv.Error(f"a row of more than {MAX_LINES} lines")
            yield line


def _separator(text: Text, candidates: str) -> str:
    """The candidate that splits the header into most columns; ties go to the first."""
    return max(candidates, key=lambda mark: _width(text, mark))


def _width(text: Text, separator: str) -> int:
    try:
        return len(next(filter(None, csv.reader(io.StringIO(text.sample, text.newline), delimiter=separator)), []))
    except csv.Error:
        return 0


def _batch(block: _Block, places: dict[str, int], width: int, separator: str, bad_byte: str) -> RawBatch:
    count = len(block.line)
    batch = RawBatch(block.line, {}, [None] * count, [""] * count)
    if block.wrong or set(map(len, block.fields)) != {width}:
        _refuse_odd_rows(batch, block, places["text"], width, separator)
    batch.cells = {role: [fields[at] for fields in block.fields] for role, at in places.items()}
    check_values(batch, bad_byte)
    return batch


def _refuse_odd_rows(batch: RawBatch, block: _Block, text: int, width: int, separator: str) -> None:
    """Rows that could not be parsed or have not as many fields as the header; their text is the line as it stands."""
    for at, fields in enumerate(block.fields):
        if at in block.wrong:
            batch.refuse(at, "malformed_csv", block.wrong[at])
        elif len(fields) != width:
            batch.refuse(
                at, "wrong_field_count", f"{len(fields)} fields, the header has {width}{_span(batch, at, fields)}"
            )
        else:
            continue
        block.fields[at] = [""] * width
        block.fields[at][text] = readable(separator.join(fields))


def _span(batch: RawBatch, at: int, fields: list[str]) -> str:
    """Which lines a row of several stands on: a stray quote may have joined them."""
    more = sum(value.count("\n") for value in fields)
    return f", lines {batch.line[at]} to {batch.line[at] + more}" if more else ""
