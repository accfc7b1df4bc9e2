"""What a clean text is, and where each character of a text stands once it is clean."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

# All that stands for the end of a line: Windows, old Mac, page and column breaks, NEL and the two Unicode separators.
LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# Control characters (category Cc) but tab and line ends, and the byte order mark wherever it stands.
REMOVED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
REPLACED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")  # any character of the two above
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: a bad byte, or half an emoji in JSON


def clean(text: str) -> str:
    """Canonical Unicode (NFC), no control characters, line ends as one `\\n`, no space around.

    clean(clean(x)) == clean(x): normal forms are closed under cutting (Unicode Standard Annex 15, section 9).
    """
    if not text.isprintable() and REPLACED.search(text):  # two quick looks: most texts have none of these
        text = REMOVED.sub("", LINE_END.sub("\n", text))
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", text).strip()


def readable(text: str) -> str:
    """The text with halves of characters replaced by U+FFFD, so that every file and page can show it."""
    return SURROGATE.sub("\ufffd", text)


def same_text(text: str) -> str:
    """The key under which two texts count as the same: case and spacing aside."""
    return " ".join(text.casefold().split())


@dataclass(frozen=True)
class Cleaned:
    """A clean text that remembers the offsets of the original."""

    text: str
    starts: list[int]  # [characters of the original + 1]: what starts there starts here
    ends: list[int]  # [characters of the original + 1]: what ends there ends here

    def move(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in the original -> offsets in `text`, without the space at the edges.

        A span that cuts a character in the middle (letter and accent become one) takes in the whole character.
        start >= end when nothing of the span is left.
        """
        start, end = self.starts[start], self.ends[end]
        piece = self.text[start:end]
        return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def clean_with_offsets(text: str) -> Cleaned:
    """clean(text), and where each offset of `text` stands in it."""
    found = clean(text)
    if found == text:
        same = list(range(len(text) + 1))
        return Cleaned(text, same, same)
    kept = list(_kept(text))
    composed, places = _compose("".join(char for _, char in kept))
    lead = len(composed) - len(composed.lstrip())
    starts: list[int | None] = [None] * (len(text) + 1)
    ends: list[int | None] = [None] * (len(text) + 1)
    for (origin, _), (start, end) in zip(kept, places, strict=True):
        starts[origin] = min(max(start - lead, 0), len(found))
        ends[origin + 1] = min(max(end - lead, 0), len(found))
    return Cleaned(found, _filled(starts[::-1], len(found))[::-1], _filled(ends, 0))


def _filled(offsets: list[int | None], first: int) -> list[int]:
    """Each gap takes the offset before it: what is removed starts and ends where its neighbours do."""
    found = []
    for offset in offsets:
        first = first if offset is None else offset
        found.append(first)
    return found


def _kept(text: str) -> Iterator[tuple[int, str]]:
    """(offset, character) of what cleaning keeps; a line end counts at its first character."""
    for index, char in enumerate(text):
        if LINE_END.match(char):
            yield index, "\n"
        elif not REMOVED.match(char) and not (char == "\n" and text[index - 1 : index] == "\r"):
            yield index, char


def _compose(text: str) -> tuple[str, list[tuple[int, int]]]:
    """NFC of the text, and the (start, end) in it of each character; characters that change share their places."""
    pieces: list[str] = []
    places: list[tuple[int, int]] = []
    size = 0
    for start, end in _clusters(text):
        piece = unicodedata.normalize("NFC", text[start:end])
        if piece == text[start:end]:
            places += [(size + index, size + index + 1) for index in range(end - start)]
        else:
            places += [(size, size + len(piece))] * (end - start)
        pieces.append(piece)
        size += len(piece)
    return "".join(pieces), places


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of the pieces that can be composed one by one: composition never joins two of them."""
    start = 0
    for index in range(1, len(text)):
        if _stands_apart(text, start, index):
            yield start, index
            start = index
    if text:
        yield start, len(text)


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
