"""Where each character of a text stands once it is clean.

Kept are only the pieces that change, so a text of millions of characters costs little more than itself.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from raysft.corpus.cleaning import LINE_END, REMOVED, clean

# What goes without a trace: control characters, and the second half of a Windows line end.
GONE = re.compile(f"(?:(?<=\r)\n|{REMOVED.pattern})+")
# Nothing composes across an ASCII character, so these pieces can be looked at one by one.
PIECE = re.compile("[\x00-\x7f]?[^\x00-\x7f]+")
LONG = 256  # characters; longer pieces are cut where nothing composes

Change = tuple[int, int, int]  # start and end of a piece of the text, and its length afterwards


class _Moves:
    """Offsets before some changes -> offsets after them. What is inside of a changed piece is at its edge."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self._start, self._end = array("q"), array("q")  # of each changed piece, before
        self._new_start, self._new_end = array("q"), array("q")
        grown = 0
        for start, end, length in changes:
            self._start.append(start)
            self._end.append(end)
            self._new_start.append(start + grown)
            self._new_end.append(start + grown + length)
            grown += length - (end - start)

    def start(self, offset: int) -> int:
        """Where that starts which started at `offset`."""
        last = bisect_right(self._start, offset) - 1
        if last >= 0 and offset < self._end[last]:
            return self._new_start[last]
        return self._behind(last, offset)

    def end(self, offset: int) -> int:
        """Where that ends which ended at `offset`."""
        last = bisect_left(self._start, offset) - 1
        if last >= 0 and offset <= self._end[last]:
            return self._new_end[last]
        return self._behind(last, offset)

    def inverse(self) -> _Moves:
        """Offsets after the changes -> offsets before them."""
        found = _Moves(())
        found._start, found._end = self._new_start, self._new_end
        found._new_start, found._new_end = self._start, self._end
        return found

    def _behind(self, last: int, offset: int) -> int:
        return offset if last < 0 else self._new_end[last] + offset - self._end[last]


@dataclass(frozen=True)
class Cleaned:
    """A clean text that remembers the offsets of the original."""

    text: str
    lead: int  # characters of space that went at the beginning
    steps: tuple[_Moves, ...]  # what changed, one after the other

    def start(self, offset: int) -> int:
        """Where in `text` that starts which starts at `offset` of the original."""
        for step in self.steps:
            offset = step.start(offset)
        return self._within(offset)

    def end(self, offset: int) -> int:
        """Where in `text` that ends which ends at `offset` of the original."""
        for step in self.steps:
            offset = step.end(offset)
        return self._within(offset)

    def back(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in `text` -> offsets in the original: the piece that became text[start:end], start < end.

        What went before it or after it without a trace is not part of it.
        """
        start, end = start + self.lead, end + self.lead
        for step in reversed(self.steps):
            back = step.inverse()
            start, end = back.start(start), back.end(end)
        return start, end

    def _within(self, offset: int) -> int:
        return min(max(offset - self.lead, 0), len(self.text))

    def move(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in the original -> offsets in `text`, without the space at the edges.

        A span that cuts a character in the middle (letter and accent become one) takes in the whole character.
        start >= end when nothing of the span is left.
        """
        start, end = self.start(start), self.end(end)
        piece = self.text[start:end]
        return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def clean_with_offsets(text: str) -> Cleaned:
    """clean(text), and where each offset of `text` stands in it."""
    found = clean(text)
    if found == text:
        return Cleaned(found, 0, ())
    kept = REMOVED.sub("", LINE_END.sub("\n", text))
    composed = unicodedata.normalize("NFC", kept)
    steps = (_Moves(_removed(text)), _Moves(_composed(kept) if composed != kept else ()))
    return Cleaned(found, len(composed) - len(composed.lstrip()), steps)


def _removed(text: str) -> Iterator[Change]:
    return ((*found.span(), 0) for found in GONE.finditer(text))


def _composed(text: str) -> Iterator[Change]:
    """The pieces that NFC changes, as small as they can be composed one by one."""
    for start, end in _pieces(text):
        if unicodedata.is_normalized("NFC", text[start:end]):
            continue
        for first, last in _clusters(text, start, end):
            written = text[first:last]
            composed = unicodedata.normalize("NFC", written)
            if composed != written:
                yield first, last, len(composed)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of all that is not ASCII, in pieces that can be composed one by one, seldom longer than LONG."""
    for found in PIECE.finditer(text):
        start, end = found.span()
        index = start + LONG
        while index < end:
            if _stands_apart(text, start, index):
                yield start, index
                start, index = index, index + LONG
            else:
                index += 1
        yield start, end


def _clusters(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the smallest pieces that can be composed one by one: composition never joins two of them."""
    start = begin
    for index in range(begin + 1, end):
        if _stands_apart(text, start, index):
            yield start, index
            start = index
    yield start, end


def _stands_apart(text: str, start: int, index: int) -> bool:
    """The character at `index` is a starter, and does not compose with the piece before it.

    Later characters compose with the last starter only, so they cannot join the two either.
    """
    char = text[index]
    if char.isascii():
        return True
    if unicodedata.combining(unicodedata.normalize("NFD", char)[0]):
        return False
    both = unicodedata.normalize("NFC", text[start : index + 1])
    return both == unicodedata.normalize("NFC", text[start:index]) + unicodedata.normalize("NFC", char)
