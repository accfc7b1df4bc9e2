"""Which lines behind a CSV row that could not be parsed are rows, and which are the rest of its field.

Nobody can know for sure. A stray quote in a row of one line leaves clean rows behind it; a damaged quote in a field of
several lines leaves its other lines there, and some of them may look like rows. So rows are held back until a few in
succession have the width of the header, and left out where a line shows that they were none. That settles within a
few rows, wherever it begins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

SURE = 5  # rows of the header's width in succession: reading is in step again
END = "the end of a field whose beginning could not be parsed"


@dataclass
class Block:
    """Consecutive rows: first line, fields, and what is wrong with those that could not be parsed."""

    line: list[int] = field(default_factory=list)
    fields: list[list[str]] = field(default_factory=list)
    wrong: dict[int, str] = field(default_factory=dict)

    def add(self, line: int, fields: list[str], wrong: str = "") -> None:
        if wrong:
            self.wrong[len(self.line)] = wrong
        self.line.append(line)
        self.fields.append(fields)

    def part(self, cut: slice) -> Block:
        wrong = {index - cut.start: said for index, said in self.wrong.items() if cut.start <= index < cut.stop}
        return Block(self.line[cut], self.fields[cut], wrong)


class Doubt:
    """Begins with a row that could not be parsed, and ends where it is clear that rows are rows again."""

    def __init__(self, separator: str, width: int) -> None:
        mark = re.escape(separator)
        # A field in quotes as it should be: they stand at both of its ends, and are doubled within.
        self._quoted = re.compile(rf'(?:^|(?<={mark}))"(?:[^"]|"")*+"(?={mark}|[\r\n]*$)')
        self._separator = separator
        self._width = width
        self._incomplete = 0  # line of a row that has fewer fields than the header: it goes on somewhere behind
        self.active = False
        self.held: list[int] = []  # rows of the block that may yet turn out to be none; always fewer than SURE

    def begin(self, block: Block, first: str) -> None:
        """The last row of the block could not be parsed; `first` is its first line, the only one that is left out."""
        complete = first.count(self._separator) + 1 >= self._width
        if not complete or self._ends_a_field(first):
            self._refute(block, block.line[-1])
        self.watch()
        self._incomplete = 0 if complete else block.line[-1]

    def watch(self) -> None:
        """Rows are in doubt from here on."""
        self.active, self.held, self._incomplete = True, [], 0

    def weigh(self, block: Block, lines: list[str]) -> None:
        """The last row of the block was parsed, from `lines`: hold it back, leave it out, or end the doubt."""
        at, line, count = len(block.line) - 1, block.line[-1], len(block.fields[-1])
        text = "".join(lines)
        quoted = self._quoted.search(text)
        if self._ends_a_field(text):
            block.wrong[at] = END
            self._refute(block, line)
            self.end()
        elif count != self._width:
            self._refute(block, line)
            self._incomplete = 0 if count > self._width else self._incomplete
        elif quoted and len(lines) == 1:
            self.end()  # its quotes open and close on one line: no field was open before
        elif self._incomplete and not quoted:
            block.wrong[at] = f"perhaps the end of the row that begins in line {self._incomplete}"
            self._incomplete = 0
        else:
            self.held.append(at)
            if len(self.held) == SURE:
                self.end()

    def end(self) -> None:
        """What was held back is rows; so is what follows."""
        self.active, self.held, self._incomplete = False, [], 0

    def _refute(self, block: Block, line: int) -> None:
        said = f"perhaps part of a field that goes on in line {line}"
        block.wrong.update(dict.fromkeys(self.held, said))
        self.held = []

    def _ends_a_field(self, text: str) -> bool:
        """Whether a quote closes a field that none opened before: `rest of it",next`. In `5" wide` it closes none."""
        for piece in self._quoted.sub("", text.rstrip("\r\n")).split(self._separator):
            if (len(piece) - len(piece.lstrip('"'))) % 2:
                return False  # it opens one first
            if piece.endswith('"') and piece.count('"') % 2:
                return True
        return False
