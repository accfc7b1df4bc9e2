"""JSON documents: an array of objects, or an object whose `data` is one. Read piece by piece, whatever their size.

An element that is no proper object is one row with its reason as long as its brackets and quotes have their pairs;
where they have not, nobody knows where the next row begins, and the document is refused with the row and the line.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from raysft.errors import DataError
from raysft.reading.batch import Columns, Gatherer, RawBatch
from raysft.reading.json_lines import DECODER, HEADER_ROWS, MALFORMED, complaint, said
from raysft.reading.streams import Text

CHUNK = 1 << 18  # characters
MAX_ELEMENT = 1 << 28  # characters of one row, or of one value before `data`
SPACE = re.compile(r"[ \t\r\n]*")
PIECE = re.compile(r'"(?:[^"\\]++|\\.)*+"|["{}\[\],]', re.DOTALL)  # a quote alone: a string that does not end
ROWS_KEY = "data"
ROWS_START = re.compile(r'"data"\s*:\s*\[')
SHOWN = 1000  # characters of an element that is no row
LOOKED_AT = 20  # lines


def is_lines(text: Text) -> bool:
    """Whether a .json file holds JSON Lines: it begins with an object that stands on one line, and is not all of it."""
    start = text.sample.lstrip("\ufeff \t\r\n")
    if not start.startswith("{"):
        return not start.startswith("[")
    lines = [line for line in start.split("\n", LOOKED_AT)[:LOOKED_AT] if line.strip()]
    objects = [_object(line) for line in lines]
    if objects[0] is not None:
        return any(objects[1:]) or not isinstance(objects[0].get(ROWS_KEY), list)
    # The first line is broken, or longer than the sample, or a document is spread over lines.
    return not ROWS_START.search(start) and lines[0].strip() != "{" and (len(lines) == 1 or any(objects))


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = DECODER.decode(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_json_array(text: Text, columns: Columns, shown: str) -> Iterator[RawBatch]:
    """Every element of the array, with the line on which it begins. Raises DataError for what is no JSON document."""
    rows = Gatherer(columns, text.reason)
    for number, line, value, wrong in _Document(text.lines, shown).elements():
        if wrong:
            rows.refuse(line, MALFORMED, f"{wrong}, in row {number}", value[:SHOWN])
        else:
            rows.add(line, value)
        if rows.full(text.raw.position):
            yield from rows.take(text.raw.position)
    yield from rows.take()


def json_array_header(text: Text, shown: str) -> list[str]:
    """The keys of the first hundred elements, in order."""
    names: dict[str, None] = {}
    for number, _, value, _ in _Document(text.lines, shown).elements():
        names.update(dict.fromkeys(value if isinstance(value, dict) else ()))
        if number == HEADER_ROWS:
            break
    return list(names)


class _Document:
    """A JSON document, and a window that moves over it."""

    def __init__(self, stream: io.TextIOWrapper, shown: str) -> None:
        self._stream = stream
        self._shown = shown
        self._text = ""
        self._at = 0
        self._start = 0  # of the element that was read last
        self._lines = 0  # line ends before `_counted`
        self._counted = 0  # a place in the window
        self._ended = False
        self._row = 0  # 0: before the array

    def elements(self) -> Iterator[tuple[int, int, Any, str]]:
        """(number, line, value, "") of each row; (number, line, text, what is wrong) of each element that is none."""
        behind = self._enter()
        while self._row or self._next() != "]":
            self._row += 1
            self._next()
            line = self._line()
            value, wrong = self._element()
            # The whole of the element is in the window: it begins at `_start` and ends here.
            wrong = wrong or complaint(value, self._text, self._start, self._at)
            yield self._row, line, self._text[self._start : self._at] if wrong else value, wrong
            mark = self._next()
            if mark == "]":
                break
            self._expect(",")
        self._expect("]")
        rest = self._next()
        if rest not in behind:
            raise self._broken(f"{rest or 'nothing'!r} behind the array")

    def _enter(self) -> set[str]:
        """Go behind the [ of the array; what may stand behind its ]."""
        if self._next() == "[":
            self._at += 1
            return {""}
        self._expect("{")
        while self._next() == '"':
            key, wrong = self._element()
            self._expect(":")
            if key == ROWS_KEY and not wrong and self._next() == "[":
                self._at += 1
                return {"}", ","}
            self._element()
            if self._next() != "}":
                self._expect(",")
        raise DataError(
            f"{self._shown}: neither an array of objects nor an object with one in {ROWS_KEY!r}",
            "Write [{...}, ...], or one object a line into a .jsonl file.",
        )

    def _next(self) -> str:
        """The next letter that is no space; "" at the end."""
        while True:
            space = SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text) or not self._fill():
                return self._text[self._at : self._at + 1]

    def _expect(self, mark: str) -> None:
        found = self._next()
        if found != mark:
            raise self._broken(f"{mark!r} is missing" + ("" if found else ", the file ends"))
        self._at += 1

    def _element(self) -> tuple[Any, str]:
        """The next value, or its text and what is wrong with it."""
        self._next()
        while True:
            self._start = self._at
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                end, wrong = self._extent(), said(error)
                value = self._text[self._at : end]
                if end < 0 and self._ended:
                    raise self._broken(wrong) from None
            else:
                wrong = ""
            # At the end of the window a number may go on.
            if 0 <= end < len(self._text) or (self._ended and end >= 0):
                self._at = end
                return value, wrong
            self._fill()

    def _extent(self) -> int:
        """Where the element ends by its brackets and quotes; -1: not in the window."""
        depth = 0
        for piece in PIECE.finditer(self._text, self._at):
            mark = piece[0]
            if mark == '"':
                return -1
            if depth == 0 and mark in {",", "]", "}"}:
                return piece.start()
            depth += (mark in {"{", "["}) - (mark in {"}", "]"})
        return -1

    def _fill(self) -> bool:
        """Move the window on; it grows where one element is larger. False at the end of the file."""
        self._line()
        left = self._text[self._at :]
        if len(left) > MAX_ELEMENT:
            raise self._broken(f"it does not end within {MAX_ELEMENT} characters")
        more = self._stream.read(max(CHUNK, len(left)))
        self._text, self._at, self._counted, self._ended = left + more, 0, 0, not more
        return bool(more)

    def _line(self) -> int:
        """The line that has been reached, from 1."""
        self._lines += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._lines + 1

    def _broken(self, why: str) -> DataError:
        row = f"row {self._row}, " if self._row else ""
        return DataError(
            f"{self._shown}: {row}line {self._line()}: not JSON ({why})",
            "Mend it there. In JSON Lines (.jsonl) such a row would cost itself only.",
        )
