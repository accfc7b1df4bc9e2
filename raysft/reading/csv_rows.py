"""The rows of CSV text with their lines. A row that cannot be parsed costs its first line, and reading goes on.

The next line is read as if that one were not there: a quote that none closes takes nothing with it. Which of the lines
behind are rows is weighed in csv_doubt.py. What becomes of a line does not depend on how the text is cut into blocks.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator

from raysft.errors import DataError
from raysft.reading.csv_doubt import Block, Doubt
from raysft.reading.decoding import readable
from raysft.reading.streams import Text

BLOCK = 1 << 19  # characters
AGAIN = 1 << 12  # lines: a block of those that are read a second time
MAX_FIELD = 1 << 25  # characters
# A row of several lines beyond these has a quote that none closes, which would take the whole file into memory.
MAX_LINES = 1 << 17
MAX_ROW = 1 << 22  # characters behind its first line
MANY = 100  # lines of a field that look like rows: too many for a list or a poem


class Rows:
    """A csv.reader that knows the lines of each row, and goes on behind a row that cannot be parsed.

    Lines are read in blocks. Where each line of a block is one row, nothing is done row by row; else the block is read
    again with care. Raises DataError where there is no header.
    """

    def __init__(self, text: Text, separator: str, shown: str) -> None:
        self._text = text.lines
        self._separator = separator
        self._ahead: deque[str] = deque()  # lines that were fetched and are to be read
        self._taken: list[str] = []  # lines of the row that is being read
        self._done = 0  # lines of all rows before
        csv.field_size_limit(MAX_FIELD)
        self.header = self._header(shown)
        self._doubt = Doubt(separator, len(self.header))

    def blocks(self) -> Iterator[Block]:
        """Rows and, in their place, the lines that could not be parsed."""
        while lines := self._fetch():
            yield self._plain(lines) or self._careful(lines)

    def _header(self, shown: str) -> list[str]:
        try:
            fields = next(filter(None, csv.reader(self._take(), delimiter=self._separator)), [])
        except csv.Error as error:
            raise DataError(f"{shown}: the header cannot be read ({error})", "Is it a CSV file?") from None
        if not fields:
            raise DataError(f"{shown}: the file is empty", "It needs a header line and rows.")
        self._finish()
        return [readable(name).strip() for name in fields]

    def _fetch(self) -> list[str]:
        if not self._ahead:
            return self._text.readlines(BLOCK)
        return [self._ahead.popleft() for _ in range(min(len(self._ahead), AGAIN))]

    def _plain(self, lines: list[str]) -> Block | None:
        """Rows of one line each; None where it is not so simple."""
        if self._doubt.active:
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
        return Block(numbers, [fields for fields in rows if fields])

    def _careful(self, lines: list[str]) -> Block:
        """Row by row, to the end of the block, of the row that goes on behind it, and of what is held back."""
        self._ahead.extendleft(reversed(lines))
        block, end, more = Block(), self._done + len(lines), True
        while more and (self._done < end or self._doubt.held):
            try:
                more = self._parse(block, end)
            except csv.Error as error:
                self._give_up(block, str(error))
        if not more:
            self._doubt.end()
        return block

    def _parse(self, block: Block, end: int) -> bool:
        """Read on until something has to be read again or the block ends; False at the end of the file."""
        taken, doubt, width = self._taken, self._doubt, len(self.header)
        # Strict, since a quote that is never closed would else take the rows behind it without a word.
        for fields in csv.reader(self._take(), delimiter=self._separator, strict=True):
            several, usable = len(taken) > 1, len(fields) == width
            if several and (not usable or len(taken) >= MANY) and self._took_rows(usable):
                self._give_up(block, "a quote that seems not to be closed")
                return True
            if fields:
                block.add(self._done + 1, fields)
            if fields and doubt.active:
                doubt.weigh(block, taken)
            elif several and not usable:
                doubt.watch()  # its quotes may be those of two rows
            self._finish()
            if self._done >= end and not doubt.held:
                return True
        return False

    def _took_rows(self, usable: bool) -> bool:
        """Whether a quote that was not closed has taken rows for text: nearly all of its lines look like rows.

        Of a row that can be used (MANY lines at least) the first and the last must be among them: people write texts
        of several lines, some of them with as many commas as a row.
        """
        marks = len(self.header) - 1
        fits = [line.count(self._separator) == marks for line in self._taken]
        enough = fits[0] and fits[-1] if usable else len(fits) >= MANY or fits[0]
        return enough and marks > 0 and sum(fits[1:-1]) >= 0.9 * len(fits[1:-1])

    def _give_up(self, block: Block, why: str) -> None:
        """The first line of the row that is being read becomes a row that cannot be used; the others are read anew."""
        first, *others = self._taken
        line, last = self._done + 1, self._done + len(self._taken)
        self._ahead.extendleft(reversed(others))
        del self._taken[1:]
        block.add(line, [first.strip("\r\n")], f"{why}; its quote was open up to line {last}" if others else why)
        self._doubt.begin(block, first)
        self._finish()

    def _finish(self) -> None:
        self._done += len(self._taken)
        self._taken.clear()

    def _take(self) -> Iterator[str]:
        """The next lines, as those of one row until it is finished."""
        taken, ahead, read = self._taken, self._ahead, self._text.readline
        behind = 0  # characters of the row behind its first line
        while line := ahead.popleft() if ahead else read():
            if taken:
                behind += len(line)
                if behind > MAX_ROW or len(taken) >= MAX_LINES:
                    taken.append(line)
                    raise csv.Error(f"a row of more than {MAX_LINES} lines or {MAX_ROW} characters")
            else:
                behind = 0
            taken.append(line)
            yield line
