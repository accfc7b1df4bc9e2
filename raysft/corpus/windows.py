"""Tagged texts -> windows of tokens: a long text becomes several, which overlap, so that nothing of it is cut.

A token of an overlap stands in two windows. It belongs to the one in which it has more context: there it is learnt and
predicted, in the other it is context alone. So each token of a text belongs to one window, in the order of the text.

Numbers of targets: tag + C * depth, of the C tags of a job and the three depths below; IGNORED for special tokens,
marks of a space alone, and tokens that belong to another window.
T tokens of a window, S spans of a text.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysft.corpus.encode import IGNORED, Encoding
from raysft.corpus.spaced import word_starts
from raysft.corpus.targets import Span, spans_of
from raysft.corpus.tokens import TOKENS, TokenizedRows, from_lists, lists_of

OVERLAP = 4  # the share of a window that stands in the next one too: 1 / OVERLAP
AT_ONCE = 100_000  # characters of texts whose encodings, some hundred bytes a token, are in memory together
# What may have a tag: what begins a word as people write it (corpus/spaced.py), and the parts into which a tokenizer
# takes that, and the pieces of these. A token's depth is the first of the three that it begins.
UNITS = ("spaced", "words", "pieces")
SPACES = np.array([code for code in range(0x10000) if chr(code).isspace()], np.uint32)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Window:
    """Some consecutive tokens of one text."""

    ids: Sequence[int]  # special tokens included
    offsets: Array  # int64 (T, 2): where each token stands in the text
    words: Array  # int64 (T,): number of the word of each token in the text, -1 for none
    special: Array  # bool (T,)
    belongs: Array  # bool (T,): of this window, and neither special nor the mark of a space alone


@dataclass(frozen=True)
class Spans:
    """The entities of a text, sorted, none of which overlaps another, as arrays (S,)."""

    start: Array
    end: Array
    begin: Array  # the tag of the first token
    inside: Array  # the tag of those after it
    outside: int

    @staticmethod
    def of(spans: Sequence[Span], number: dict[str, int]) -> Spans:
        """number: of each tag."""
        return Spans(
            start=np.array([span[0] for span in spans], np.int64),
            end=np.array([span[1] for span in spans], np.int64),
            begin=np.array([number[f"B-{span[2]}"] for span in spans], np.int64),
            inside=np.array([number[f"I-{span[2]}"] for span in spans], np.int64),
            outside=number["O"],
        )


def windows_of(texts: Sequence[str], tokenizer: Path, max_length: int) -> Iterator[list[Window]]:
    """The windows of each text; of one without any token a single window of special tokens alone."""
    library, shared = _windowing(str(tokenizer), max_length)
    for some in _batches(texts):
        for text, encoding in zip(some, library.encode_batch(some), strict=True):
            parts, solid = [encoding, *encoding.overflowing], _solid(text)
            yield [
                _window(part, solid, shared * (index > 0), shared * (index + 1 < len(parts)))
                for index, part in enumerate(parts)
            ]


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Consecutive texts of AT_ONCE characters together, or one that is longer."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


@functools.lru_cache(maxsize=4)
def _windowing(file: str, max_length: int) -> tuple[Any, int]:
    """(the fast tokenizer of a base, which cuts a text into windows; tokens that two windows share)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(file)
    shared = overlap(max_length, tokenizer.num_special_tokens_to_add(False))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, stride=shared)
    return tokenizer, shared


def overlap(max_length: int, special: int) -> int:
    """Tokens that a window has in common with the next one: two at the least, so that each has a token of context."""
    return max(2, (max_length - special) // OVERLAP)


def _solid(text: str) -> Array:
    """How many characters that are no space stand before each offset, int64 (characters + 1,)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.concatenate([[0], np.cumsum(~np.isin(codes, SPACES))])


def _window(encoding: Any, solid: Array, before: int, after: int) -> Window:
    """before, after: tokens that it shares with the window before it, and with the one after it."""
    offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    words = np.array([-1 if word is None else word for word in encoding.word_ids], np.int64)
    special = np.array(encoding.special_tokens_mask, bool)
    places = np.flatnonzero(~special)
    belongs = np.zeros(len(special), bool)
    # Of what two windows share the first half, rounded down, belongs to the first of them.
    belongs[places[before // 2 : len(places) - (after - after // 2)]] = True
    # Some tokenizers write the space before a word as a piece of its own; it is no part of the word.
    written = ~special & (solid[offsets[:, 1]] > solid[offsets[:, 0]])
    return Window(encoding.ids, offsets, words, special, belongs & written)


def depths(text: str, windows: Sequence[Window]) -> Array:
    """Of the tokens that belong to the windows of a text, in order: the first of UNITS that each begins, int64."""
    parts = np.concatenate([window.words[window.belongs] for window in windows])
    before = _solid(text)
    characters = np.flatnonzero(np.diff(before))  # those that are no space
    first = characters[before[offsets_of(windows)[:, 0]]]
    words = np.searchsorted(word_starts(text), first, side="right")
    piece = (parts[1:] == parts[:-1]) & (parts[1:] >= 0)
    further = np.where(words[1:] == words[:-1], 1 + piece, 0)
    return np.concatenate([[0], further])[: len(parts)]


def offsets_of(windows: Sequence[Window]) -> Array:
    """Where each of these tokens stands in the text, int64 (tokens, 2)."""
    return np.concatenate([window.offsets[window.belongs] for window in windows])


def spread_out(windows: Sequence[Window], values: Array) -> list[Array]:
    """One value for each of these tokens -> those of each window, int64 (T,), IGNORED for its other tokens."""
    found = []
    start = 0
    for window in windows:
        own = np.full(len(window.ids), IGNORED, np.int64)
        end = start + int(window.belongs.sum())
        own[window.belongs] = values[start:end]
        found.append(own)
        start = end
    return found


def window_rows(rows: pa.Table, how: Encoding) -> tuple[pa.Table, list[int]]:
    """(windows in schema TOKENS in the order of the texts, tokens of each text) of corpus rows: row_id, text, label.

    Every window carries the row_id of its text.
    """
    number = {tag: index for index, tag in enumerate(how.labels)}
    ids: list[Sequence[int]] = []
    targets: list[list[int]] = []
    owners: list[int] = []
    lengths: list[int] = []
    shared = _windowing(str(how.tokenizer), how.max_length)[1]
    found = windows_of(rows.column("text").to_pylist(), how.tokenizer, how.max_length)
    columns = (rows.column(name).to_pylist() for name in ("row_id", "text", "label"))
    for row_id, text, label, windows in zip(*columns, found, strict=True):
        tags = tags_of(windows, Spans.of(spans_of(label), number)) + depths(text, windows) * len(number)
        ids += [window.ids for window in windows]
        targets += [numbers.tolist() for numbers in spread_out(windows, tags)]
        owners += [row_id] * len(windows)
        special = len(windows[0].ids) - _text_tokens(windows[0])
        lengths.append(sum(map(_text_tokens, windows)) - shared * (len(windows) - 1) + special)
    labels = pa.array([-1] * len(ids), pa.int32())
    arrays = [pa.array(owners, pa.int64()), labels, lists_of(ids), lists_of(targets)]
    return pa.table(arrays, schema=TOKENS), lengths


def _text_tokens(window: Window) -> int:
    """Tokens that are not special."""
    return int((~window.special).sum())


def tags_of(windows: Sequence[Window], spans: Spans) -> Array:
    """The tags of the tokens that belong to the windows of a text, in order, int64: B- where a token is the first that
    lies in a span or reaches into it, I- on those after it, O outside. One that reaches into two counts to the first.
    """
    first, last = offsets_of(windows).T
    if not len(spans.start):
        return np.full(len(first), spans.outside)
    at = np.searchsorted(spans.end, first, side="right")
    within = at < len(spans.start)
    at = np.minimum(at, len(spans.start) - 1)
    within &= spans.start[at] < last
    places = np.flatnonzero(within)
    own = at[places]
    again = np.concatenate([[False], own[1:] == own[:-1]])[: len(own)]
    tags = np.full(len(first), spans.outside)
    tags[places] = np.where(again, spans.inside[own], spans.begin[own])
    return tags


def unlabelled_windows(
    texts: Sequence[str], tokenizer: Path, max_length: int
) -> tuple[TokenizedRows, list[list[Window]]]:
    """(windows of texts without tags as rows by position, the windows of each text)."""
    found = list(windows_of(texts, tokenizer, max_length))
    ids = [window.ids for windows in found for window in windows]
    return from_lists(ids, [-1] * len(ids)), found
