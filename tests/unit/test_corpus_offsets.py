"""Offsets move as they do when every character is followed one by one, and long texts cost little."""

from __future__ import annotations

import tracemalloc
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raysft.corpus.cleaning import LINE_END, REMOVED, clean
from raysft.corpus.offsets import LONG, clean_with_offsets
from tests.unit.test_corpus_cleaning import TEXT

Kept = list[tuple[int, str]]  # offset and character


def by_hand(text: str) -> tuple[list[int], list[int]]:
    """(start, end) of every offset: each character is followed through removing, composing and stripping."""
    kept = [
        (place, "\n" if LINE_END.match(char) else char)
        for place, char in enumerate(text)
        if not REMOVED.match(char) and not (char == "\n" and text[place - 1 : place] == "\r")
    ]
    edges = [0, *(place for place in range(1, len(kept)) if apart(kept, place)), len(kept)]
    composed, places = "", []
    for first, last in pairwise(edges):
        written = "".join(char for _, char in kept[first:last])
        piece = unicodedata.normalize("NFC", written)
        size = len(composed)
        same = piece == written
        places += [(size + at, size + at + 1) if same else (size, size + len(piece)) for at in range(last - first)]
        composed += piece
    lead, found = len(composed) - len(composed.lstrip()), len(composed.strip())
    starts, ends = {len(text): found}, {0: 0}
    for (origin, _), (start, end) in zip(kept, places, strict=True):
        starts[origin] = min(max(start - lead, 0), found)
        ends[origin + 1] = min(max(end - lead, 0), found)
    offsets = range(len(text) + 1)
    return (
        [starts[min(each for each in starts if each >= offset)] for offset in offsets],
        [ends[max(each for each in ends if each <= offset)] for offset in offsets],
    )


def apart(kept: Kept, place: int) -> bool:
    """A character that is no mark, and with what stands before and behind it composed as if it stood alone."""
    if unicodedata.combining(unicodedata.normalize("NFD", kept[place][1])[0]):
        return False
    before, after = ("".join(char for _, char in part) for part in (kept[:place], kept[place:]))
    composed = [unicodedata.normalize("NFC", each) for each in (before, after, before + after)]
    return composed[0] + composed[1] == composed[2]


@given(TEXT)
@example("\ufeffe\x00\u0301 \r\n\r\n\x85 ")
@example("a\u0301\u1100\x00\u1161\u11a8")
def test_every_offset_moves_as_by_hand(text: str) -> None:
    cleaned = clean_with_offsets(text)
    starts, ends = by_hand(text)
    assert cleaned.text == clean(text)
    assert [cleaned.start(offset) for offset in range(len(text) + 1)] == starts
    assert [cleaned.end(offset) for offset in range(len(text) + 1)] == ends


PIECES = st.lists(st.sampled_from(["你", "é", "e\u0301", "\u1100\u1161", "a", "\r\n", "\u0301"]), max_size=9)


@given(PIECES)
def test_long_runs_without_ascii_move_as_short_ones(pieces: list[str]) -> None:
    middle = "".join(pieces)
    cleaned = clean_with_offsets("你" * (LONG - 4) + middle + "你" * LONG + "e\u0301")
    short = clean_with_offsets(f"你{middle}你")
    further = LONG - 5
    for offset in range(1, len(middle) + 1):
        assert cleaned.start(offset + further) == short.start(offset) + further
        assert cleaned.end(offset + further) == short.end(offset) + further


@pytest.mark.parametrize("piece", ["plain lines of words\n", "ein Satz über größere Städte\r\n", "你好世界，一句話。"])
def test_a_text_of_a_million_characters_takes_little_memory(piece: str) -> None:
    text = "\ufeff" + piece * (10**6 // len(piece))
    tracemalloc.start()
    cleaned = clean_with_offsets(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cleaned.move(1, 3) == (0, 2)
    assert peak < 24 * len(text), f"{peak / len(text):.0f} bytes a character"


@given(TEXT, st.integers(0, 60), st.integers(1, 8))
def test_back_is_the_piece_of_the_original(text: str, start: int, size: int) -> None:
    """It moves to the same offsets again, or takes in a whole changed piece that they cut; nothing at its edges went
    without a trace."""
    cleaned = clean_with_offsets(text)
    end = min(start + size, len(cleaned.text))
    if start >= end:
        return
    first, last = cleaned.back(start, end)
    assert 0 <= first < last <= len(text)
    assert cleaned.start(first) <= start < end <= cleaned.end(last)
    assert cleaned.start(first + 1) > start or last - first == 1
    assert cleaned.end(last - 1) < end or last - first == 1
    if cleaned.text == text:
        assert (first, last) == (start, end)
