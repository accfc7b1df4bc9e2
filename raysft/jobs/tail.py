"""The lines of a log that grows, each given once, while only its end is read.

Ray's HTTP API gives the last lines of a log, and does not say how many there are before. So the lines that were given
last are looked for among them: what stands behind is new. Where they are not there, or more than once, all is read. A
job would have to say the same KEPT lines twice, with thousands of others in between within a second, to be misread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from raysft.jobs.told import lines_of, parted

KEPT = 100  # lines by which a place in a log is known again; a job of ours tells events with their times among them
AHEAD = (50, 2000)  # more lines that are read at first, and then, before all of the log is

Read = Callable[[int | None], str]  # the last lines of the log; None: all


class Tail:
    """Remembers how far a log was read."""

    def __init__(self, read: Read, last: int | None = None) -> None:
        """last: begin with so many last lines; None: with the first."""
        self._read, self._last = read, last
        self._kept: list[str] = []  # the newest lines that were given
        self._given = 0  # characters of all that were given
        self._digest = hashlib.sha256()  # of these
        self.read_again = False  # whether the last look had to read the whole log once more

    def new(self, over: bool) -> list[str]:
        """Lines that were not given yet. over: no more will come, so that a last line without an end is one, too."""
        self.read_again = False
        if not self._kept:
            return self._give(_whole(self._read(self._last), over))
        for ahead in AHEAD:
            text = self._read(KEPT + ahead)
            if len(lines_of(text)) < KEPT + ahead:  # that is all of it
                return self._give(self._beyond(_whole(text, over)))
            if (found := self._behind(_whole(text, over))) is not None:
                return self._give(found)
        self.read_again = True
        return self._give(self._beyond(_whole(self._read(None), over)))

    def _behind(self, text: str) -> str | None:
        """What is new in these last lines; None where that cannot be told."""
        text, kept = f"\n{text}", f"\n{_joined(self._kept)}"
        place = text.find(kept)
        if place < 0 or text.find(kept, place + 1) >= 0:
            return None
        return text[place + len(kept) :]

    def _beyond(self, text: str) -> str:
        """What is new in the whole log: all of another one; nothing of one that is shorter than it was, as it may be
        for a moment while a head comes back."""
        if self._last is not None:  # what stands before is not known
            _, known, new = f"\n{text}".rpartition(f"\n{_joined(self._kept)}")
            return new if known else ""
        if hashlib.sha256(text[: self._given].encode()).digest() == self._digest.digest():
            return text[self._given :]
        if len(text) <= self._given:
            return ""
        self._given, self._digest = 0, hashlib.sha256()
        return text

    def _give(self, text: str) -> list[str]:
        lines = lines_of(text)
        self._given += len(text)
        self._digest.update(text.encode())
        self._kept = [*self._kept, *lines][-KEPT:]
        return lines


def reach(read: Read, count: int) -> int | None:
    """Among how many last lines of a log are `count` for people; None: it has no more."""
    last = 2 * count + KEPT
    while True:
        lines = lines_of(read(last))
        shown = [index for index, line in enumerate(lines) if parted(line)[0] is not None]
        if len(shown) >= count:
            return len(lines) - shown[-count]
        if len(lines) < last:
            return None
        last *= 8


def _whole(text: str, over: bool) -> str:
    """Up to the end of the last line that has one."""
    return text if over else text[: text.rfind("\n") + 1]


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
